//! A QR code as inline SVG: drawn here, so that no secret goes anywhere else.

use std::fmt::Write as _;

use fast_qr::{ECL, QRBuilder};
use zeroize::Zeroizing;

/// Modules around the code that stay light (ISO/IEC 18004).
const QUIET: usize = 4;

/// Draws a text, dark on light whatever the page's colours are, since cameras expect that. `None`: it is too long for a QR code.
pub(super) fn svg(text: &str, title: &str) -> Option<Zeroizing<String>> {
    let code = QRBuilder::new(text).ecl(ECL::M).build().ok()?;
    let size = code.size + 2 * QUIET;
    let mut dark = Zeroizing::new(String::with_capacity(16 * 1024));
    for y in 0..code.size {
        let row = &code[y];
        let mut x = 0;
        while x < code.size {
            let run = row[x..code.size].iter().take_while(|m| m.value()).count();
            if run > 0 {
                let _written = write!(dark, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET);
            }
            x += run.max(1);
        }
    }
    let title = title
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;");
    Some(Zeroizing::new(format!(
        "<svg class=\"qr\" role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\" xmlns=\"http://www.w3.org/2000/svg\">\
         <path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path fill=\"#000\" d=\"{}\"/></svg>",
        *dark
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_quiet_zone_and_nothing_of_the_title_breaks_out() {
        let svg = svg("otpauth://totp/a:b?secret=AAAA", "a\"><b>").expect("a code");
        assert!(svg.contains("aria-label=\"a&quot;>&lt;b>\""), "{}", *svg);
        assert!(svg.contains("M4 4h7v1h-7z"), "{}", *svg);
        assert!(super::svg(&"x".repeat(5000), "").is_none());
    }
}
