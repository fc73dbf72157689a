//! Sizes that both ends keep. Measured grounds: batches of 64 and more events a
//! message already reach the machine's ceiling, so nothing is gained by larger ones.

/// Largest item, in bytes of JSON. Checked in the transaction that writes it.
pub const ITEM_BYTES: usize = 32 * 1024;
/// Largest sum of item bytes in one frame.
pub const FRAME_BYTES: usize = 128 * 1024;
/// Most items in one frame.
pub const FRAME_ITEMS: usize = 256;
/// Frames sent and not yet acknowledged, per direction and host.
pub const FRAMES_IN_FLIGHT: usize = 16;
/// MQTT packet limit set on both clients: a frame of the largest items, its
/// header and JSON overhead fit several times over.
pub const PACKET_BYTES: usize = 1024 * 1024;
/// Largest hello: a host's report with hundreds of allowed images, and no more, because a
/// stranger's is kept too when it registers.
pub const HELLO_BYTES: usize = 64 * 1024;
/// Deepest nesting that a command or an event may have is left to `serde_json`
/// (128 levels); free text from outside is cut to this many characters.
pub const TEXT_CHARACTERS: usize = 1000;

/// Cuts a text from outside to [`TEXT_CHARACTERS`], so that no reason or engine
/// message can make an item too large.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
