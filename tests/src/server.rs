//! A Kafka-protocol server of either kind, so that one test serves both ends of a flow.
//!
//! Owns: the choice. Does not own: either server (`kafka`, `longhaul`).

use std::path::PathBuf;

use crate::fault_proxy::FaultProxy;
use crate::kafka::Kafka;
use crate::longhaul::{Broker, BrokerSettings};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Apache Kafka.
    Kafka,
    /// `longhaul broker`.
    Longhaul,
}

/// A running server.
pub enum Server {
    /// Apache Kafka.
    Kafka(Kafka),
    /// `longhaul broker`.
    Longhaul(Broker),
}

impl Server {
    /// Starts one in `folder`; `kafka_settings` are for Apache Kafka alone.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(kind: Kind, folder: PathBuf, kafka_settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::Kafka => Self::Kafka(Kafka::start(folder, kafka_settings)?),
            Kind::Longhaul => Self::Longhaul(Broker::start(folder, BrokerSettings::default())?),
        })
    }

    /// Starts one that clients reach by way of a proxy.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_behind(
        proxy: &FaultProxy,
        kind: Kind,
        folder: PathBuf,
        kafka_settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let server = match kind {
            Kind::Kafka => {
                let advertised = format!("PLAINTEXT://{}", proxy.address());
                let mut settings = vec![("advertised.listeners", advertised.as_str())];
                settings.extend(kafka_settings);
                Self::Kafka(Kafka::start(folder, &settings)?)
            }
            Kind::Longhaul => {
                let settings = BrokerSettings::default().with("--advertise").with(proxy.address());
                Self::Longhaul(Broker::start(folder, settings)?)
            }
        };
        proxy.forward_to(server.bootstrap().parse()?);
        Ok(server)
    }

    /// `HOST:PORT`, past any proxy.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Kafka(kafka) => kafka.bootstrap(),
            Self::Longhaul(broker) => broker.bootstrap(),
        }
    }

    /// The folder of its data. That of Apache Kafka holds a folder for each partition.
    pub fn data(&self) -> PathBuf {
        match self {
            Self::Kafka(kafka) => kafka.data(),
            Self::Longhaul(broker) => broker.data(),
        }
    }

    /// An orderly stop.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Kafka(kafka) => kafka.stop(),
            Self::Longhaul(broker) => broker.stop(),
        }
    }

    /// Freezes or thaws the process: connections stay open, and nothing is answered meanwhile.
    pub fn freeze(&mut self, frozen: bool) {
        match self {
            Self::Kafka(kafka) => kafka.process().freeze(frozen),
            Self::Longhaul(broker) => broker.process().freeze(frozen),
        }
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Kafka(kafka) => kafka.kill9(),
            Self::Longhaul(broker) => broker.kill9(),
        }
    }

    /// Starts it again on the same address and data.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Kafka(kafka) => kafka.restart(),
            Self::Longhaul(broker) => broker.restart(),
        }
    }
}
