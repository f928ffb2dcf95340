//! What the target programs share: clocks, the record of their own polls, and their control channel.

pub mod clock;
pub mod control;
pub mod truth;
pub mod work;
