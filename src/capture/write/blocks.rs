//! pcapng's blocks, as far as pgwhy writes them (draft-ietf-opsawg-pcapng). Little-endian throughout.

/// Raw IP: the first nibble tells the version (LINKTYPE_RAW).
pub const LINKTYPE_RAW: u16 = 101;

/// The number under which pgwhy's custom blocks stand. pgwhy has none of its own from IANA; this one is
/// set aside for documentation (RFC 5612), so no other program's blocks can be taken for ours by mistake
/// of the registry, and the document's first bytes tell them from anything else under it.
pub const PEN: u32 = 32_473;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// The custom block that tools may copy into another file.
const CUSTOM: u32 = 0x0000_0bad;

const COMMENT: u16 = 1;
const SECTION_OS: u16 = 3;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_TEXT: u16 = 3;
const INTERFACE_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;

/// Longest text of an option; its length has 16 bits.
const LONGEST: usize = 8_192;

/// The block that begins a file, and describes it.
pub fn section(out: &mut Vec<u8>, application: &str, os: &str, comment: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        out.extend_from_slice(&[1, 0, 0, 0]);
        // The section's length is not known in advance.
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        text(out, SECTION_OS, os);
        text(out, SECTION_APPLICATION, application);
        text(out, COMMENT, comment);
        end_of_options(out);
    });
}

/// Describes an interface; they are numbered from 0 in a section. Times are in nanoseconds.
pub fn interface(out: &mut Vec<u8>, name: &str, description: &str) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&0_u32.to_le_bytes());
        text(out, INTERFACE_NAME, name);
        text(out, INTERFACE_TEXT, description);
        option(out, INTERFACE_RESOLUTION, &[9]);
        end_of_options(out);
    });
}

/// One packet. `at` counts nanoseconds from 1970.
pub fn packet(out: &mut Vec<u8>, interface: u32, at: u64, inbound: bool, bytes: &[u8], comment: &str) {
    block(out, ENHANCED_PACKET, |out| {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&interface.to_le_bytes());
        for half in [at >> 32, at & 0xffff_ffff] {
            out.extend_from_slice(&u32::try_from(half).unwrap_or_default().to_le_bytes());
        }
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
        pad(out, bytes.len());
        let flags: u32 = if inbound { 1 } else { 2 };
        option(out, PACKET_FLAGS, &flags.to_le_bytes());
        text(out, COMMENT, comment);
        end_of_options(out);
    });
}

/// pgwhy's own block around a JSON document.
pub fn custom(out: &mut Vec<u8>, document: &str) {
    block(out, CUSTOM, |out| {
        out.extend_from_slice(&PEN.to_le_bytes());
        out.extend_from_slice(document.as_bytes());
        // Blanks, so that the padding is none of the document's trouble.
        out.resize(out.len() + document.len().next_multiple_of(4) - document.len(), b' ');
    });
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() + 4 - start).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length);
    if let Some(word) = out.get_mut(start + 4..start + 8) {
        word.copy_from_slice(&length);
    }
}

fn text(out: &mut Vec<u8>, code: u16, text: &str) {
    if !text.is_empty() {
        let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        option(out, code, text.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes());
    }
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

fn pad(out: &mut Vec<u8>, length: usize) {
    out.resize(out.len() + length.next_multiple_of(4) - length, 0);
}
