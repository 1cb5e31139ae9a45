//! The whole engine over a store in memory that fails, stalls, lies and stops, on paused time and a seeded plan.
//!
//! Each test prints the seed or the call of a failing run in its message; the same one repeats the run.

mod archiving;
mod crashes;
mod damage;
mod group_offsets;
mod older_folder;
mod ownership;
mod reading;
mod retention;
mod running;
mod store_trouble;
mod topics;
