//! `broker`: one broker as this process.
//!
//! Owns: from arguments to options. Does not own: anything that a broker does.

use broker::BrokerOptions;

use crate::arguments::BrokerArguments;

/// The broker's options, as the command line gives them.
pub(crate) fn options(arguments: BrokerArguments) -> BrokerOptions {
    BrokerOptions {
        data: arguments.data,
        listen: arguments.listen,
        advertise: arguments.advertise,
        cluster: arguments.cluster,
        flush: arguments.flush,
        journal: arguments.journal,
        admin: arguments.admin,
        store: arguments.store,
        dev: arguments.dev,
        insecure_listen: arguments.insecure_listen,
        accept_loss: arguments.accept_loss,
    }
}
