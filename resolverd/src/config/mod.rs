//! From the file as written to the configuration as meant.
