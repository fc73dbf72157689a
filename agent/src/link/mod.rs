//! The agent side of the stream.
