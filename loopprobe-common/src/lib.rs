//! Records and limits shared by loopprobe and its eBPF programs.
#![no_std]
