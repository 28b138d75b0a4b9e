//! A file as UTF-8, whatever it was, in bounded memory.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult};

use super::charset::Charset;

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// The text of a file. What cannot be read in its encoding is an error of the kind [`io::ErrorKind::InvalidData`].
pub(super) struct Decoded<R> {
    input: R,
    decoder: Decoder,
    name: &'static str,
    raw: Vec<u8>,
    /// What of `raw` is still to be decoded.
    from: usize,
    to: usize,
    ended: bool,
    text: Vec<u8>,
    /// What of `text` is still to be given.
    given: usize,
    there: usize,
}

impl<R: Read> Decoded<R> {
    /// `input` stands behind the byte-order mark.
    pub(super) fn new(input: R, charset: Charset) -> Self {
        Self {
            input,
            decoder: charset.decoder(),
            name: charset.name(),
            raw: vec![0; PIECE],
            from: 0,
            to: 0,
            ended: false,
            text: vec![0; PIECE],
            given: 0,
            there: 0,
        }
    }

    /// Decodes more. `false`: there is no more.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            if self.from == self.to && self.ended {
                return Ok(false);
            }
            if self.from == self.to {
                self.from = 0;
                self.to = self.input.read(&mut self.raw)?;
                self.ended = self.to == 0;
            }
            let raw = &self.raw[self.from..self.to];
            let (result, read, written) =
                self.decoder
                    .decode_to_utf8_without_replacement(raw, &mut self.text, self.ended);
            self.from += read;
            if let DecoderResult::Malformed(_, _) = result {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "bytes that are no {}: name the encoding by --encoding, or save the file as UTF-8",
                        self.name
                    ),
                ));
            }
            if written > 0 {
                (self.given, self.there) = (0, written);
                return Ok(true);
            }
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.there && !self.fill()? {
            return Ok(0);
        }
        let text = &self.text[self.given..self.there];
        let length = text.len().min(out.len());
        out[..length].copy_from_slice(&text[..length]);
        self.given += length;
        Ok(length)
    }
}
