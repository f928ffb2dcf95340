//! Alerts on long polls: a command is run, or a URL is posted to, while the poll is still open
//! where that is seen, and once more when it is over.
//!
//! Nothing here makes the session wait: deliveries have threads of their own, a bounded queue, a
//! time limit and a rate limit. What is not delivered is counted by its reason.

mod command;
mod counts;
mod deliveries;
mod event;
mod filter;
mod rate;
mod sink;
mod webhook;

pub use command::OnAlert;
pub use counts::Counts;
pub use event::{Level, When};
pub use filter::{Filter, Levels, TypeThreshold};
pub use sink::{Alerts, Options, Rules};
pub use webhook::Webhook;
