//! Compiles the control API's definition in pure Rust, so that no protoc is needed.
//!
//! Does not own: the definition (`proto/`), or what is done with the generated code (`control::v1`).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const DEFINITION: &str = "longhaul/control/v1/control.proto";
    println!("cargo:rerun-if-changed=proto/{DEFINITION}");
    let descriptors = protox::compile([DEFINITION], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
