//! How our UR5e answers beside OGBench's: `cargo run --release --example ogbench_response`.
//!
//! The largest differences from what the original did under the same actions (`tests/fixtures/ogbench/responses.toml`).
#![allow(clippy::print_stdout, reason = "an example prints")]

#[path = "../tests/responses/mod.rs"]
mod responses;

fn main() {
    println!("| case | physics steps | grip site, mm | yaw, rad | closure |");
    println!("|---|---|---|---|---|");
    for (name, response) in responses::responses() {
        for substeps in [10, 25] {
            let [site, yaw, closure] = responses::differences(&response, Some(substeps));
            println!("| {name} | {substeps} | {:.2} | {yaw:.4} | {closure:.3} |", site * 1e3);
        }
    }
}
