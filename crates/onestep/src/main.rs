//! The command `onestep`: train, evaluate and record agents in the simulation.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
