//! What several test modules stand on.

pub mod app;
pub mod books;
pub mod connections;
pub mod contract;
pub mod log;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod traffic;
