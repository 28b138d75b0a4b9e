//! Messages on their way out of the whole program, from a change in the directory to the receiver.

mod enrolment_key;
mod main_job;
mod named;
