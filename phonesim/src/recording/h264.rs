//! A small H.264 encoder for pictures of few colours: constrained baseline, lossless.
//!
//! A macroblock (16 × 16 pixels) is coded in one of three ways. Unchanged since the last
//! frame: skipped. Exactly what prediction from the row above or the column at its left gives:
//! Intra 16×16 without a residual, some ten bits. Otherwise raw (I_PCM), 384 bytes. So there
//! is no transform, what was coded is what was drawn, and a frame in which two digits change
//! takes less than a kilobyte. Clauses are of ITU-T H.264.

use super::bitstream::BitWriter;
use crate::display::Size;
use crate::display::picture::{PALETTE, Picture};

/// Side of a macroblock in the luma plane, in pixels.
const MACROBLOCK: usize = 16;

/// Baseline profile, and a level whose limits (1620 macroblocks, 10 Mbit/s) are far away.
pub const PROFILE: u8 = 66;
/// `constraint_set0_flag` and `constraint_set1_flag`: any baseline or main decoder will do.
pub const CONSTRAINTS: u8 = 0xc0;
/// Level 3.
pub const LEVEL: u8 = 30;

/// First bytes of the NAL units: importance 3, and the type (table 7-1).
const NAL_SLICE: u8 = 0x61;
const NAL_KEY_SLICE: u8 = 0x65;
const NAL_SEQUENCE: u8 = 0x67;
const NAL_PICTURE: u8 = 0x68;

/// Bits of `frame_num`; key frames come long before it would overflow, and it may.
const FRAME_NUMBER_BITS: u32 = 8;

/// `slice_type` when all slices of the picture are of it (table 7-6).
const SLICE_P: u32 = 5;
const SLICE_I: u32 = 7;

/// `mb_type` of I_PCM and of Intra 16×16 with prediction 0 and no residual (table 7-11); in a
/// P slice the intra types come after five others.
const TYPE_PCM: u32 = 25;
const TYPE_INTRA: u32 = 1;
const INTRA_IN_P: u32 = 5;

/// Where a block's samples can be predicted from without any left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prediction {
    /// The row above, repeated downwards.
    Above,
    /// The column at the left, repeated rightwards.
    Left,
}

impl Prediction {
    /// `Intra16x16PredMode` (table 8-4).
    fn luma_mode(self) -> u32 {
        match self {
            Self::Above => 0,
            Self::Left => 1,
        }
    }

    /// `intra_chroma_pred_mode` (table 8-5).
    fn chroma_mode(self) -> u32 {
        match self {
            Self::Above => 2,
            Self::Left => 1,
        }
    }
}

/// One colour component of a frame, padded to whole macroblocks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plane {
    stride: usize,
    /// Samples along a side of a macroblock: 16 of luma, 8 of chroma.
    side: usize,
    samples: Vec<u8>,
}

impl Plane {
    fn row(&self, x: usize, y: usize) -> &[u8] {
        let start = y * self.stride + x;
        &self.samples[start..start + self.side]
    }

    /// The rows of macroblock (`column`, `line`).
    fn block(&self, column: usize, line: usize) -> impl Iterator<Item = &[u8]> {
        let (left, top) = (column * self.side, line * self.side);
        (top..top + self.side).map(move |y| self.row(left, y))
    }

    fn is_predicted(&self, column: usize, line: usize, prediction: Prediction) -> bool {
        let (left, top) = (column * self.side, line * self.side);
        match prediction {
            Prediction::Above => {
                line > 0 && {
                    let above = self.row(left, top - 1);
                    self.block(column, line).all(|row| row == above)
                }
            }
            Prediction::Left => {
                column > 0
                    && (top..top + self.side).all(|y| {
                        let before = self.samples[y * self.stride + left - 1];
                        self.row(left, y).iter().all(|sample| *sample == before)
                    })
            }
        }
    }
}

/// Luma, blue difference, red difference (4:2:0).
type Planes = [Plane; 3];

/// Turns pictures of one size into frames.
#[derive(Debug)]
pub struct Encoder {
    size: Size,
    /// Macroblocks in a row, and rows of them.
    columns: usize,
    lines: usize,
    /// What a decoder shows now.
    shown: Option<Planes>,
    /// Frames since the last key frame.
    frame_number: u32,
    /// Two key frames in a row must differ in their id.
    key_id: u32,
}

impl Encoder {
    /// For pictures of this size, whose sides are even.
    pub fn new(size: Size) -> Self {
        Self {
            size,
            columns: (size.width as usize).div_ceil(MACROBLOCK),
            lines: (size.height as usize).div_ceil(MACROBLOCK),
            shown: None,
            frame_number: 0,
            key_id: 0,
        }
    }

    /// `seq_parameter_set_rbsp` (7.3.2.1) as a NAL unit.
    pub fn sequence_parameters(&self) -> Vec<u8> {
        let mut writer = BitWriter::default();
        writer.raw(&[PROFILE, CONSTRAINTS, LEVEL]);
        writer.unsigned(0); // its id
        writer.unsigned(FRAME_NUMBER_BITS - 4);
        writer.unsigned(2); // output order is decoding order
        writer.unsigned(1); // one reference frame
        writer.bit(false); // no gaps in frame_num
        writer.unsigned(self.columns as u32 - 1);
        writer.unsigned(self.lines as u32 - 1);
        writer.bit(true); // frames, no fields
        writer.bit(true); // direct_8x8_inference_flag
        let surplus = |macroblocks: usize, visible: u32| ((macroblocks * MACROBLOCK) as u32 - visible) / 2;
        writer.bit(true); // cropped, in units of two pixels
        writer.unsigned(0);
        writer.unsigned(surplus(self.columns, self.size.width));
        writer.unsigned(0);
        writer.unsigned(surplus(self.lines, self.size.height));
        writer.bit(true); // VUI (E.1.1): only that no frame waits for another
        writer.bits(0, 8); // none of aspect, overscan, signal, chroma, timing, HRD, HRD, struct
        writer.bit(true);
        writer.bit(true); // vectors may point outside
        for limit in [0, 0, 0, 0, 0, 1] {
            // No limits on bytes, bits, vectors; no reordering; one frame of buffer.
            writer.unsigned(limit);
        }
        writer.into_nal_unit(NAL_SEQUENCE)
    }

    /// `pic_parameter_set_rbsp` (7.3.2.2) as a NAL unit.
    #[expect(clippy::unused_self, reason = "belongs to the sequence parameters")]
    pub fn picture_parameters(&self) -> Vec<u8> {
        let mut writer = BitWriter::default();
        writer.unsigned(0); // its id
        writer.unsigned(0); // that of the sequence parameters
        writer.bits(0, 2); // CAVLC; no field order
        writer.unsigned(0); // one slice group
        writer.unsigned(0); // one reference each
        writer.unsigned(0);
        writer.bits(0, 3); // no weighting
        writer.signed_zero(); // QP, QS, chroma QP: nothing is quantised
        writer.signed_zero();
        writer.signed_zero();
        writer.bit(true); // slices say whether to deblock
        writer.bits(0, 2); // intra may use inter neighbours; nothing redundant
        writer.into_nal_unit(NAL_PICTURE)
    }

    /// Codes one picture as one slice. A key frame can be decoded by itself; the first frame
    /// is one in any case, and says so.
    pub fn encode(&mut self, picture: &Picture, key: bool) -> Frame {
        let planes = planes(picture, self.columns, self.lines);
        let before = if key { None } else { self.shown.take() };
        let key = before.is_none();
        let mut writer = BitWriter::default();
        self.slice_header(&mut writer, key);
        self.slice_data(&mut writer, &planes, before.as_ref());
        self.shown = Some(planes);
        Frame { unit: writer.into_nal_unit(if key { NAL_KEY_SLICE } else { NAL_SLICE }), key }
    }

    /// 7.3.3.
    fn slice_header(&mut self, writer: &mut BitWriter, key: bool) {
        self.frame_number = if key { 0 } else { (self.frame_number + 1) % (1 << FRAME_NUMBER_BITS) };
        writer.unsigned(0); // first macroblock
        writer.unsigned(if key { SLICE_I } else { SLICE_P });
        writer.unsigned(0); // picture parameters
        writer.bits(self.frame_number, FRAME_NUMBER_BITS);
        if key {
            writer.unsigned(self.key_id);
            self.key_id ^= 1;
            writer.bits(0, 2); // show what came before; no long-term reference
        } else {
            writer.bits(0, 2); // references by default, in their order
            writer.bit(false); // the oldest reference makes room
        }
        writer.signed_zero(); // QP
        writer.unsigned(1); // no deblocking: it would change what was drawn
    }

    /// 7.3.4 with CAVLC.
    fn slice_data(&self, writer: &mut BitWriter, planes: &Planes, before: Option<&Planes>) {
        let mut skipped = 0;
        // Which macroblocks of this row, and of the row above until overwritten, are raw.
        let mut raw = vec![false; self.columns];
        for line in 0..self.lines {
            for column in 0..self.columns {
                // Skipped blocks keep their place: with no vector anywhere the predicted
                // vector of P_Skip (8.4.1.1) is nought.
                let is_same = before.is_some_and(|before| {
                    planes
                        .iter()
                        .zip(before)
                        .all(|(now, then)| now.block(column, line).eq(then.block(column, line)))
                });
                if is_same {
                    skipped += 1;
                    raw[column] = false;
                    continue;
                }
                let mut offset = 0;
                if before.is_some() {
                    writer.unsigned(skipped);
                    skipped = 0;
                    offset = INTRA_IN_P;
                }
                // `raw[column]` still tells of the macroblock above.
                let beside_raw = raw[column] || column > 0 && raw[column - 1];
                raw[column] = !write_predicted(writer, planes, column, line, offset, beside_raw);
                if raw[column] {
                    write_raw(writer, planes, column, line, offset);
                }
            }
        }
        if skipped > 0 {
            writer.unsigned(skipped);
        }
    }
}

/// A coded picture.
#[derive(Debug)]
pub struct Frame {
    /// One NAL unit, without start code or length.
    pub unit: Vec<u8>,
    /// Whether it can be decoded by itself.
    pub key: bool,
}

/// Writes a macroblock as Intra 16×16 without residual if that gives it exactly.
fn write_predicted(
    writer: &mut BitWriter,
    planes: &Planes,
    column: usize,
    line: usize,
    offset: u32,
    beside_raw: bool,
) -> bool {
    let way = |planes: &[Plane]| {
        [Prediction::Above, Prediction::Left]
            .into_iter()
            .find(|prediction| planes.iter().all(|plane| plane.is_predicted(column, line, *prediction)))
    };
    let (Some(luma), Some(chroma)) = (way(&planes[..1]), way(&planes[1..])) else {
        return false;
    };
    writer.unsigned(offset + TYPE_INTRA + luma.luma_mode());
    writer.unsigned(chroma.chroma_mode());
    writer.signed_zero(); // QP stays
    // "No coefficients" (table 9-5). A raw neighbour counts as one with 16 of them, and one
    // such is enough for the last column of the table (9.2.1).
    if beside_raw {
        writer.bits(0b00_0011, 6);
    } else {
        writer.bit(true);
    }
    true
}

/// Writes a macroblock as I_PCM.
fn write_raw(writer: &mut BitWriter, planes: &Planes, column: usize, line: usize, offset: u32) {
    writer.unsigned(offset + TYPE_PCM);
    writer.align();
    for row in planes.iter().flat_map(|plane| plane.block(column, line)) {
        writer.raw(row);
    }
}

/// The picture in the colours of video, its edges drawn out to whole macroblocks.
fn planes(picture: &Picture, columns: usize, lines: usize) -> Planes {
    let colours = PALETTE.map(video_colour);
    let (width, height) = (picture.size.width as usize, picture.size.height as usize);
    // Of chroma one sample stands for 2 × 2 pixels; the first of them decides.
    let plane = |component: usize, step: usize| {
        let side = MACROBLOCK / step;
        let stride = columns * side;
        let samples = (0..lines * side)
            .flat_map(|y| {
                let row = (y * step).min(height - 1) * width;
                (0..stride).map(move |x| row + (x * step).min(width - 1))
            })
            .map(|pixel| colours[usize::from(picture.pixels[pixel]) % colours.len()][component])
            .collect();
        Plane { stride, side, samples }
    };
    [plane(0, 1), plane(1, 2), plane(2, 2)]
}

/// ITU-R BT.601 with the narrow range (luma 16–235, chroma 16–240).
fn video_colour([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = [red, green, blue].map(i32::from);
    let weigh = |r: i32, g: i32, b: i32, base: i32| {
        (base + (r * red + g * green + b * blue + 128) / 256).clamp(16, 240) as u8
    };
    [weigh(66, 129, 25, 16), weigh(-38, -74, 112, 128), weigh(112, -94, -18, 128)]
}

#[cfg(test)]
#[path = "h264_tests.rs"]
mod tests;
