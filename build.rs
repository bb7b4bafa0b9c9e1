//! Migrations are compiled in; a new one must not be missed because no line of Rust changed.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
