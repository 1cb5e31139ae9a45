//! What a broker is started with, and what is refused before anything is touched.
//!
//! Owns: the fields and the checks that need no disk.
//! Does not own: the flags (`cli`), whether the data folder and the store fit them (`serve`).

use std::path::PathBuf;

use tiering::store::StoreUrl;
use topology::{Address, FlushMode};

/// How a broker runs. The fields are the flags of `longhaul broker`.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// The data folder; made where it is missing.
    pub data: PathBuf,
    /// Where clients connect; port 0 takes any free one.
    pub listen: Address,
    /// What clients are told to connect to; the address listened on where it is not given.
    pub advertise: Option<Address>,
    /// The cluster's name, kept from the first start on.
    pub cluster: String,
    /// When a record counts as written.
    pub flush: FlushMode,
    /// The folder of the journal; the data folder where it is not given.
    pub journal: Option<PathBuf>,
    /// Where control, metrics and health listen; nowhere where it is not given.
    pub admin: Option<Address>,
    /// Where sealed segments go; nowhere where it is not given.
    pub store: Option<StoreUrl>,
    /// Make unknown topics when a client asks for them, and let first rebalances not wait.
    pub dev: bool,
    /// Listen where other machines can reach, although nothing asks who they are.
    pub insecure_listen: bool,
    /// Go on although the log lost something; what was lost is reported.
    pub accept_loss: bool,
}

/// Why options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Others could reach an address, and nothing asks who they are.
    #[error(
        "{flag} {address} can be reached from other machines, and this broker has neither encryption nor \
         authentication yet: listen on 127.0.0.1, or say --insecure-listen if the network itself is safe"
    )]
    NotLoopback {
        /// Which flag.
        flag: &'static str,
        /// Its value.
        address: String,
    },
    /// Clients cannot connect there.
    #[error("clients cannot connect to {0}: say with --advertise which address they can reach")]
    NotReachable(String),
    /// The name of a cluster is part of what people and the store see.
    #[error("cluster name {0:?} is not usable: take 1 to 100 letters, digits, '.', '_' and '-'")]
    ClusterName(String),
}

impl BrokerOptions {
    /// Refuses what would be unsafe or could not work.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn check(&self) -> Result<(), OptionsError> {
        let open = [("--listen", Some(&self.listen)), ("--admin", self.admin.as_ref())];
        for (flag, address) in open {
            if let Some(address) = address.filter(|address| !address.is_loopback() && !self.insecure_listen) {
                return Err(OptionsError::NotLoopback { flag, address: address.to_string() });
            }
        }
        let told = self.advertise.as_ref().unwrap_or(&self.listen);
        if matches!(told.host.as_str(), "0.0.0.0" | "::") {
            return Err(OptionsError::NotReachable(told.to_string()));
        }
        let is_usable = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=100).contains(&self.cluster.len()) || !self.cluster.bytes().all(is_usable) {
            return Err(OptionsError::ClusterName(self.cluster.clone()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(listen: &str) -> BrokerOptions {
        BrokerOptions {
            data: PathBuf::from("data"),
            listen: listen.parse().unwrap(),
            advertise: None,
            cluster: "west".to_owned(),
            flush: FlushMode::Ack,
            journal: None,
            admin: None,
            store: None,
            dev: false,
            insecure_listen: false,
            accept_loss: false,
        }
    }

    #[test]
    fn only_loopback_is_served_without_saying_so() {
        assert_eq!(options("127.0.0.1:9092").check(), Ok(()));
        assert_eq!(options("localhost:9092").check(), Ok(()));
        assert_eq!(options("[::1]:9092").check(), Ok(()));
        let refused = options("10.0.0.1:9092").check().unwrap_err();
        assert!(refused.to_string().contains("--insecure-listen"), "{refused}");
        let admin = BrokerOptions { admin: Some("0.0.0.0:9600".parse().unwrap()), ..options("127.0.0.1:1") };
        assert!(matches!(admin.check(), Err(OptionsError::NotLoopback { flag: "--admin", .. })));
    }

    #[test]
    fn an_address_that_no_client_can_reach_needs_another_to_tell() {
        let anywhere = BrokerOptions { insecure_listen: true, ..options("0.0.0.0:9092") };
        assert!(matches!(anywhere.check(), Err(OptionsError::NotReachable(_))));
        let told = BrokerOptions { advertise: Some("kafka.example:9092".parse().unwrap()), ..anywhere };
        assert_eq!(told.check(), Ok(()));
        let named = BrokerOptions { cluster: "a b".to_owned(), ..options("127.0.0.1:1") };
        assert_eq!(named.check(), Err(OptionsError::ClusterName("a b".to_owned())));
    }
}
