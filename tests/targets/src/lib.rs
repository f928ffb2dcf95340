//! What the target programs share: clocks, the record of their own polls, their own lines, and
//! their control channel.

pub mod alternate;
pub mod clock;
pub mod control;
pub mod runtime;
pub mod source;
pub mod truth;
pub mod work;
