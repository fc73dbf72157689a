//! The reconciler: brings one phone to its desired state.
