//! Enough of an MP4 reader to tell a finished file from a torn one.

/// One box: its name and content.
type Box<'a> = ([u8; 4], &'a [u8]);

/// What a finished file says about itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    /// Of the whole file, in milliseconds.
    pub duration_ms: u32,
    /// Samples of the track.
    pub frames: u32,
    /// Of the picture, in pixels.
    pub size: (u32, u32),
}

/// Reads a file; an error says what is missing or wrong.
pub fn read(file: &[u8]) -> Result<Summary, String> {
    let top = boxes(file)?;
    let names: Vec<&[u8]> = top.iter().map(|(name, _)| name.as_slice()).collect();
    if names != [b"ftyp", b"mdat", b"moov"] {
        return Err(format!("boxes {names:?}"));
    }
    let samples = top[1].1;
    let movie = boxes(top[2].1)?;
    let header = child(&movie, *b"mvhd")?;
    if number(header, 3)? != 1000 {
        return Err("time scale".to_owned());
    }
    let duration_ms = number(header, 4)?;

    let track = boxes(child(&movie, *b"trak")?)?;
    let track_header = child(&track, *b"tkhd")?;
    let size = (number(track_header, 19)? >> 16, number(track_header, 20)? >> 16);
    let media = boxes(child(&track, *b"mdia")?)?;
    let information = boxes(child(&media, *b"minf")?)?;
    let table = boxes(child(&information, *b"stbl")?)?;
    let lengths = child(&table, *b"stsz")?;
    let frames = number(lengths, 2)?;
    let mut total = 0;
    for sample in 0..frames as usize {
        total += number(lengths, 3 + sample)?;
    }
    if total as usize != samples.len() {
        return Err(format!("{total} bytes of samples in {}", samples.len()));
    }
    let start = number(child(&table, *b"stco")?, 2)? as usize;
    if file.get(start..start + samples.len()) != Some(samples) {
        return Err("the chunk is not the content of mdat".to_owned());
    }
    let times = child(&table, *b"stts")?;
    let mut sum = 0;
    for entry in 0..number(times, 1)? as usize {
        sum += number(times, 2 + 2 * entry)? * number(times, 3 + 2 * entry)?;
    }
    if sum != duration_ms {
        return Err(format!("samples last {sum} ms, the movie {duration_ms} ms"));
    }
    Ok(Summary { duration_ms, frames, size })
}

fn boxes(mut bytes: &[u8]) -> Result<Vec<Box<'_>>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let name = bytes.get(4..8).and_then(|name| name.try_into().ok()).ok_or("a box is cut off")?;
        let (length, header) = match number(bytes, 0)? {
            1 => (u64::from(number(bytes, 2)?) << 32 | u64::from(number(bytes, 3)?), 16),
            length => (u64::from(length), 8),
        };
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let content =
            bytes.get(header..length).ok_or_else(|| format!("box {name:?} claims {length} bytes"))?;
        found.push((name, content));
        bytes = &bytes[length..];
    }
    Ok(found)
}

fn child<'a>(boxes: &[Box<'a>], name: [u8; 4]) -> Result<&'a [u8], String> {
    boxes
        .iter()
        .find(|(found, _)| *found == name)
        .map(|(_, content)| *content)
        .ok_or_else(|| format!("no {}", String::from_utf8_lossy(&name)))
}

/// The 32-bit number at this place, counted in numbers.
fn number(bytes: &[u8], place: usize) -> Result<u32, String> {
    bytes
        .get(place * 4..place * 4 + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes)
        .ok_or_else(|| "a box is too short".to_owned())
}
