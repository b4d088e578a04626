//! Rules about the host, each with a host that breaks it.
