//! The link: an interface that carries our addresses.
