//! The berth binary: all of it is [`berth::cli`].

fn main() -> std::process::ExitCode {
    berth::cli::main()
}
