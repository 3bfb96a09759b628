//! Two queue pairs and the memory between them, on two devices, or on one that talks to itself.
//!
//! The devices are RDMA_DEVICE (`NAME`, or `NAME,NAME` for two that reach each other), else rxe0 and rxe1. Without them the tests
//! are left out; `make test-rdma` brings them, and so allows no leaving out (TICKPLANE_TEST_RDMA).

mod acknowledgement;
mod group;
mod nodes;
mod outage;
mod processes;
mod refusal;
mod replication;
mod setup;
mod wire;
mod writes;
