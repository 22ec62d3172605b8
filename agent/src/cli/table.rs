//! Tables: plain columns, made for eyes and for `grep`.

use super::console::{Console, Tone};
use super::text::safe;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// One cell: foreign text is made safe here, whatever is handed in.
pub(super) struct Field {
    text: String,
    tone: Tone,
}

impl Field {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Rows under their headings, wrapped to the terminal if standard output is one.
pub(super) fn render(console: &Console, headings: &[&str], rows: Vec<Vec<Field>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if console.color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    match console.width {
        Some(width) => table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(headings.iter().map(|heading| cell(heading, Tone::Strong)));
    for row in rows {
        table.add_row(row.into_iter().map(|field| cell(&safe(&field.text), field.tone)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

fn cell(text: &str, tone: Tone) -> Cell {
    // An empty cell would make what follows look like its own.
    let cell = Cell::new(if text.is_empty() { "–" } else { text });
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Warning => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Tone::Quiet => cell.add_attribute(Attribute::Dim),
        Tone::Strong => cell.add_attribute(Attribute::Bold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::Format;
    use crate::cli::tests::testing::console;

    fn rows() -> Vec<Vec<Field>> {
        vec![
            vec![Field::plain("checkout"), Field::new("degraded (P1)", Tone::Bad), Field::plain("")],
            vec![Field::plain("a\u{1b}[2J"), Field::new("blind", Tone::Warning), Field::plain("x y")],
        ]
    }

    #[test]
    fn columns_line_up_and_nothing_is_obeyed() {
        let (console, _said) = console(Format::Text);
        insta::assert_snapshot!(render(&console, &["SERVICE", "VERDICT", "ROW"], rows()), @r"
        SERVICE     VERDICT        ROW
        checkout    degraded (P1)  –
        a\u{1b}[2J  blind          x y
        ");
    }

    #[test]
    fn a_narrow_terminal_wraps_and_colours_are_ours() {
        let (mut console, _said) = console(Format::Text);
        (console.width, console.color) = (Some(24), true);
        let text = render(&console, &["SERVICE", "VERDICT", "ROW"], rows());
        assert!(text.contains("\u{1b}[") && !text.contains("\u{1b}[2J"), "{text:?}");
        assert!(text.lines().count() > 3, "{text}");
    }
}
