//! The target of this name.
#![cfg_attr(fuzzing, no_main)]

rejoin_fuzz::program!(JSON);
