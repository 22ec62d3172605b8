//! Hostile texts, for every test that lets some in.

/// Seeds by seeds: quotes, shells, new lines, paths, options, templates, encodings, bytes that steer.
pub fn payloads() -> Vec<String> {
    let hearts = [
        "'",
        "\"",
        "`id`",
        "$(id)",
        "${HOME}",
        ";id",
        "|id",
        "&&id",
        "\n",
        "\r\n",
        "\r\nx-evil: 1",
        "\0",
        "%00",
        "%0d%0a",
        "../",
        "../../etc/passwd",
        "..",
        ".",
        "%2e%2e",
        "%2e%2e%2f",
        "/",
        "//",
        "//evil.example/",
        "-rf",
        "--",
        "--help",
        "-oProxyCommand=id",
        "{{",
        "}}",
        "{{plan}}",
        "{{input.token}}",
        "{",
        "}",
        "\\",
        "\\u0000",
        "\\\"",
        "?a=b",
        "#x",
        "&a=b",
        "@evil.example",
        "\u{202e}",
        "é\u{301}",
        "\u{1f600}",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "\u{1b}[2J",
        "*",
        "~",
        " ",
        "\t",
        "<script>",
    ];
    let mut all: Vec<String> = hearts.iter().map(|one| (*one).to_owned()).collect();
    for (number, one) in hearts.iter().enumerate() {
        let other = hearts[(number * 7 + 3) % hearts.len()];
        all.extend([
            format!("v1{one}"),
            format!("{one}v1"),
            format!("v1{one}v2"),
            format!("{one}{other}"),
            format!("a/{one}/b"),
            format!("{one}{one}"),
            format!("\"{one}\""),
            format!("{other}x{one}"),
            format!("{{{one}}}"),
        ]);
    }
    assert!(all.len() >= 500, "{}", all.len());
    all
}
