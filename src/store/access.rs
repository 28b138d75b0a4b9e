//! What a store is opened for.

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Makes it if it is not there, and brings its schema up to date. The caller holds [`super::lock()`].
    Write,
    /// Neither makes nor changes anything.
    Read,
}
