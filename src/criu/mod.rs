//! CRIU, which writes the processes of a container to an image and makes them again from one: its RPC
//! (`criu swrk`), without a word about containers.
//!
//! A request is plain data ([`Options`]) until [`Service::serve`] encodes it; the encoding is all that
//! berth needs of protocol buffers ([`wire`]). Of an image it reads one table, that of the mounts ([`mount_points`]).

mod image;
mod log;
mod request;
mod response;
mod service;
pub mod wire;

pub use image::mount_points;
pub use request::{CgroupsMode, ExternalMount, Features, Kind, Options, PageServer, Switch};
pub use response::Response;
pub use service::{FIRST_DESCRIPTOR, Notification, Service, Surroundings, require, version};
