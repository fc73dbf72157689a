//! What is on the screen: lines of text above coloured bars.
//!
//! Pixels are indices into [`PALETTE`]; the PNG and the video turn them into colours. Text
//! stands in square cells whose side grows with the picture. In the small pictures of the
//! video a cell is one macroblock, so that a changed digit costs one of them.

use super::Size;
use super::font;

/// The colours, as red, green, blue.
pub const PALETTE: [[u8; 3]; 8] = [
    [24, 32, 72],
    [240, 240, 240],
    [200, 48, 48],
    [216, 144, 32],
    [208, 208, 48],
    [48, 168, 72],
    [48, 112, 208],
    [144, 64, 176],
];
const BACKGROUND: u8 = 0;
const TEXT: u8 = 1;
/// The first of the colours used for bars, up to the last of the palette.
const FIRST_BAR: u8 = 2;
const BARS: u32 = PALETTE.len() as u32 - FIRST_BAR as u32;

/// A glyph's 5 × 7 points stand in 8 × 8: room on all sides.
const CELL_POINTS: u32 = 8;
/// A picture has room for about so many cells in a row…
const CELLS_ACROSS: u32 = 10;
/// …and at least so many rows of them.
const CELLS_DOWN: u32 = 8;

/// One picture, row by row from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its size.
    pub size: Size,
    /// For each pixel an index into [`PALETTE`].
    pub pixels: Vec<u8>,
}

impl Picture {
    /// A picture with these lines; what does not fit into a row goes on in the next one, what
    /// does not fit at all is left out.
    pub fn draw(size: Size, lines: &[&str]) -> Self {
        let mut picture = Self { size, pixels: vec![BACKGROUND; size.width as usize * size.height as usize] };
        let scale = ((size.width / CELLS_ACROSS).min(size.height / CELLS_DOWN) / CELL_POINTS).max(1);
        let cell = scale * CELL_POINTS;
        let across = (size.width / cell).max(1);

        let mut row = 0;
        for line in lines {
            let mut column = 0;
            for character in line.chars() {
                if column == across {
                    column = 0;
                    row += 1;
                }
                picture.draw_glyph(character, column * cell, row * cell, scale);
                column += 1;
            }
            row += 1;
        }
        // One row of background between text and bars.
        picture.draw_bars((row + 1) * cell);
        picture
    }

    fn draw_glyph(&mut self, character: char, left: u32, top: u32, scale: u32) {
        for (column, row) in font::points(character) {
            let (left, top) = (left + (column + 1) * scale, top + row * scale);
            self.fill(left, top, left + scale, top + scale, TEXT);
        }
    }

    fn draw_bars(&mut self, top: u32) {
        let Size { width, height } = self.size;
        for bar in 0..BARS {
            let colour = FIRST_BAR + bar as u8;
            self.fill(width * bar / BARS, top, width * (bar + 1) / BARS, height, colour);
        }
    }

    /// Colours a rectangle as far as it lies within the picture.
    fn fill(&mut self, left: u32, top: u32, right: u32, bottom: u32, colour: u8) {
        let Size { width, height } = self.size;
        let (left, right) = (left.min(width) as usize, right.min(width) as usize);
        for row in top.min(height)..bottom.min(height) {
            let start = row as usize * width as usize;
            self.pixels[start + left..start + right].fill(colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_size_can_be_drawn() {
        for (width, height) in [(1, 1), (1, 300), (300, 1), (17, 9), (720, 1280), (1280, 720)] {
            let size = Size { width, height };
            let picture = Picture::draw(size, &["A LONG NAME THAT WRAPS", "12:34:56", ""]);
            assert_eq!(picture.pixels.len(), (width * height) as usize);
        }
    }

    #[test]
    fn text_and_bars_are_seen_and_texts_differ() {
        let size = Size { width: 180, height: 320 };
        let picture = Picture::draw(size, &["CP-1", "000001"]);
        for colour in 0..PALETTE.len() as u8 {
            assert!(picture.pixels.contains(&colour), "{colour}");
        }
        assert_ne!(picture, Picture::draw(size, &["CP-1", "000002"]));
    }
}
