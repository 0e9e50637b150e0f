//! The messages of a context's transfer (fsutil's `wire.proto` and `stat.proto`), written by hand for two reasons:
//! names of files are bytes, which protobuf's `string` in Rust cannot carry, and file contents are not copied.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

/// What a packet is for (`Packet.PacketType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    /// One entry; without one, the end of the entries.
    Stat = 0,
    /// The receiver wants the contents of entry `id`.
    Request = 1,
    /// A piece of it; an empty one is its end.
    Data = 2,
    /// The receiver has everything; the sender answers with the same.
    Finish = 3,
    /// What went wrong, in words.
    Error = 4,
}

/// One message, in either direction.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Packet {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) stat: Option<Stat>,
    #[prost(uint32, tag = "3")]
    pub(crate) id: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) data: Bytes,
}

/// One entry of the tree.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stat {
    /// From the root, names joined by `/`.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) path: Vec<u8>,
    /// Go's `os.FileMode`, see [`super::stat`].
    #[prost(uint32, tag = "2")]
    pub(crate) mode: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) uid: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) gid: u32,
    #[prost(int64, tag = "5")]
    pub(crate) size: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    pub(crate) modified: i64,
    /// A symbolic link's target, or the path under which a hard link's file was sent first.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) link: Vec<u8>,
    #[prost(int64, tag = "8")]
    pub(crate) device_major: i64,
    #[prost(int64, tag = "9")]
    pub(crate) device_minor: i64,
    #[prost(btree_map = "string, bytes", tag = "10")]
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
}

impl Packet {
    pub(crate) fn stat(stat: Stat) -> Self {
        Self { kind: Kind::Stat.into(), stat: Some(stat), ..Self::default() }
    }

    pub(crate) fn end_of_stats() -> Self {
        Self { kind: Kind::Stat.into(), ..Self::default() }
    }

    pub(crate) fn data(id: u32, data: Bytes) -> Self {
        Self { kind: Kind::Data.into(), id, data, ..Self::default() }
    }

    pub(crate) fn end_of_data(id: u32) -> Self {
        Self::data(id, Bytes::new())
    }

    pub(crate) fn finish() -> Self {
        Self { kind: Kind::Finish.into(), ..Self::default() }
    }

    pub(crate) fn error(message: &str) -> Self {
        Self { kind: Kind::Error.into(), data: Bytes::copy_from_slice(message.as_bytes()), ..Self::default() }
    }

    pub(crate) fn request(id: u32) -> Self {
        Self { kind: Kind::Request.into(), id, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::fsutil::types;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What we write is what the published schema reads, as long as names are UTF-8.
        #[test]
        fn the_published_schema_reads_our_packets(
            path in "[a-z/é]{0,20}", link in "[a-z/é]{0,20}", mode: u32, size: i64, modified: i64,
            key in "[a-z.]{1,8}", value: Vec<u8>, id: u32, data: Vec<u8>,
        ) {
            let stat = Stat {
                path: path.clone().into(), mode, size, modified, link: link.clone().into(),
                attributes: BTreeMap::from([(key.clone(), value.clone())]), ..Stat::default()
            };
            let packet = Packet { stat: Some(stat), ..Packet::data(id, data.clone().into()) };
            let read = types::Packet::decode(packet.encode_to_vec().as_slice()).unwrap();
            prop_assert_eq!(read.r#type(), types::packet::PacketType::PacketData);
            prop_assert_eq!((read.id, read.data), (id, data));
            let stat = read.stat.unwrap();
            prop_assert_eq!((stat.path, stat.linkname), (path, link));
            prop_assert_eq!((stat.mode, stat.size, stat.mod_time), (mode, size, modified));
            prop_assert_eq!(stat.xattrs.get(&key), Some(&value));
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_survives() {
        let packet = Packet::stat(Stat { path: b"\xff\xfe".to_vec(), ..Stat::default() });
        let read = Packet::decode(packet.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read.stat.unwrap().path, b"\xff\xfe");
    }
}
