//! The live view: what a session knows, on a terminal, several times a second.
//!
//! [`State`] holds what is known and what the user has chosen, and knows nothing of terminals;
//! [`draw`] shows it; [`keys`] says what a key means.

mod draw;
pub mod keys;
mod panes;
mod seen;
mod state;
mod workers;

pub use draw::draw;
pub use keys::{Action, action};
pub use seen::Counted;
pub use state::{Focus, SortBy, State};
