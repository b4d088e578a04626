//! `--log`, `--log-format`, `--debug`: the only printer of errors and warnings.
