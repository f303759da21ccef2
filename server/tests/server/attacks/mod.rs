//! Hostile clients against the program as it is run, while a writer and a reader go on with their work.
//!
//! Each attack is one test on a server of its own: the two lose nothing and are never sent away, attackers are refused
//! with the typed error, and memory stays within its bound. How long the two waited is written, a line of JSON for
//! each attack, into the file that `REJOIN_ATTACKS` names, and judged by `cargo rel attacks`.

mod flooding;
mod hoarding;
mod malformed;
mod siege;
mod timing;
