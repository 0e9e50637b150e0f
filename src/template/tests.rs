use proptest::prelude::*;
use serde_json::json;

use super::*;

static ENTRY: Shape = Shape::Struct(&[
    Field { name: "Digest", key: "digest", shape: &Shape::Text },
    Field { name: "Size", key: "size", shape: &Shape::Number },
    Field { name: "Platform", key: "platform", shape: &Shape::Pointer(&PLATFORM) },
    Field { name: "URLs", key: "urls", shape: &Shape::List(&Shape::Text) },
]);
static PLATFORM: Shape = Shape::Struct(&[
    Field { name: "OS", key: "os", shape: &Shape::Text },
    Field { name: "OSVersion", key: "os.version", shape: &Shape::Text },
    Field { name: "Variant", key: "variant", shape: &Shape::Text },
]);
static SHAPE: Shape = Shape::Struct(&[
    Field { name: "Name", key: "name", shape: &Shape::Text },
    Field { name: "List", key: "list", shape: &Shape::List(&ENTRY) },
    Field { name: "By", key: "by", shape: &Shape::Map(&Shape::Pointer(&PLATFORM)) },
    Field { name: "Listed", key: "listed", shape: &Shape::Map(&ENTRY) },
    Field { name: "Any", key: "any", shape: &Shape::Any },
    Field { name: "Absent", key: "absent", shape: &ENTRY },
]);

fn value() -> Value {
    json!({
        "name": "demo:1",
        "list": [
            {"digest": "a", "size": 7, "platform": {"os": "linux", "os.version": "10"}},
            {"digest": "b", "size": 12, "extra_part": "x"},
        ],
        "by": {"linux/amd64": {"os": "linux"}, "linux/arm": {"os": "linux", "variant": "v7"}},
        "any": {"Env": ["A=1", "B=2"], "diff_ids": [], "number": 1.5, "deep": {"b": 2, "a": null}},
    })
}

fn rendered(template: &str) -> String {
    match Template::parse(template).and_then(|template| template.render(&value(), &SHAPE)) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn all(cases: &[(&str, &str)]) {
    for (template, wanted) in cases {
        assert_eq!(rendered(template), *wanted, "{template}");
    }
}

#[test]
fn values_as_go_prints_them() {
    all(&[
        ("text", "text"),
        ("{{.Name}}", "demo:1"),
        ("{{ .Name }}{{`raw\\n`}}{{\"a\\tb\\x41\\u00e4\\101\"}}", "demo:1raw\\na\tbAäA"),
        ("{{.Any.Env}} {{.Any.deep}} {{.Any.number}}", "[A=1 B=2] map[a:<nil> b:2] 1.5"),
        ("{{.Any.nope}}{{.Any.nope.more}}", "<no value><no value>"),
        ("{{println .Any.nope}}{{print .Any.nope}}{{printf \"%v\" .Any.nope}}", "<nil>\n<nil><nil>"),
        ("{{html .Any.nope}}", "&lt;no value&gt;"),
        ("{{(index .List 1).Platform}} {{(index .List 1).URLs}}", "<nil> []"),
        ("{{(index .List 0).Platform}}|{{(index .List 0).Platform.Variant}}", "{linux 10 }|"),
        ("{{.Listed}} {{.Absent}}", "map[] { 0 <nil> []}"),
        ("{{.Any.DiffIDs}}{{(index .List 1).ExtraPart}}{{(index .List 0).Platform.OSVersion}}", "[]x10"),
        ("{{true}} {{7}} {{-7}} {{0x1f}} {{1_000}} {{1.5}} {{'a'}}", "true 7 -7 31 1000 1.5 97"),
        ("{{json .Any.deep}}", "{\n  \"a\": null,\n  \"b\": 2\n}"),
        ("{{json .Listed}}{{json .Absent}}{{json (index .Listed \"x\").URLs}}", "null{}null"),
    ]);
}

#[test]
fn spaces_and_comments() {
    all(&[
        ("a {{- .Name -}} b", "ademo:1b"),
        ("a {{/* } }} */}} b", "a  b"),
        ("a {{- /* x */ -}} b", "ab"),
        ("{{- 3 -}} \n x", "3x"),
        ("{{3 -}}\n{{- 4}}", "34"),
        ("}} {", "}} {"),
    ]);
}

#[test]
fn conditions() {
    all(&[
        ("{{if .Name}}y{{else}}n{{end}}", "y"),
        ("{{if .Any.nope}}y{{else if .Name}}e{{else}}n{{end}}", "e"),
        ("{{if and .Name .Any.nope}}y{{else}}n{{end}}{{if or 0 \"\" 3}}y{{end}}", "ny"),
        (
            "{{if .Absent}}struct{{end}}{{if .Listed}}map{{end}}{{if (index .List 1).Platform}}nil{{end}}",
            "struct",
        ),
        ("{{and 0 (index .List 9)}}", "0"),
        ("{{with .Any.Env}}{{len .}}{{index $.List 0 \"Digest\"}}{{else}}n{{end}}", "2a"),
        ("{{with .Any.nope}}y{{else with .Name}}{{.}}{{end}}", "demo:1"),
        ("{{with $x := 7}}{{$x}}{{end}}", "7"),
        (
            "{{not .Name}} {{eq 1 2 1}} {{ne .Name \"x\"}} {{lt 1 2}} {{ge \"b\" \"a\"}} {{eq nil .Any.nope}}",
            "false true true true true true",
        ),
    ]);
}

#[test]
fn ranges_and_variables() {
    all(&[
        ("{{range .List}}{{.Digest}} {{end}}", "a b "),
        ("{{range $i, $m := .List}}{{if $i}}, {{end}}{{$i}}={{$m.Size}}{{end}}", "0=7, 1=12"),
        ("{{range $k, $v := .By}}{{$k}}:{{$v.Variant}};{{end}}", "linux/amd64:;linux/arm:v7;"),
        ("{{range $x := .Any.Env}}{{$x}}{{.}}{{end}}", "A=1A=1B=2B=2"),
        ("{{range .Any.nope}}y{{else}}none{{end}}{{range 3}}{{.}}{{end}}", "none012"),
        ("{{range 9}}{{if eq . 1}}{{continue}}{{end}}{{if gt . 3}}{{break}}{{end}}{{.}}{{end}}", "023"),
        ("{{$x := 1}}{{range 3}}{{$x = .}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$x := .List}}{{len $x}}", "2"),
    ]);
}

#[test]
fn functions_and_pipelines() {
    all(&[
        (
            "{{.Name | printf \"%s %d\" \"x\" | json}}",
            "column 11 of the template: %d takes a whole number, and this is a text; %v takes everything",
        ),
        ("{{.Name | printf \"%s-%s\" \"x\"}}", "x-demo:1"),
        (
            "{{printf \"%q %5d|%-5s|%05d %v %t %x %6.2f %%\" \"a\\n\" 3 \"a\" -7 .Any.Env true 255 1.5}}",
            "\"a\\n\"     3|a    |-0007 [A=1 B=2] true ff   1.50 %",
        ),
        (
            "{{printf \"%s %q %.2s %e %c %+d\" .Any.Env .Any.Env \"abc\" 1500.0 97 3}}",
            "[A=1 B=2] [\"A=1\" \"B=2\"] ab 1.500000e+03 a +3",
        ),
        ("{{join .Any.Env \",\"}} {{join (split \"a-b\" \"-\") \"+\"}}", "A=1,B=2 a+b"),
        (
            "{{upper .Name}} {{lower \"ÄB\"}} {{title \"ab cd\"}} {{pad \"a\" 1 2}}| {{truncate .Name 2}}",
            "DEMO:1 äb Ab Cd  a  | de",
        ),
        ("{{len .List}} {{len .Name}} {{print 1 2 \"a\" 3}} {{println .Name 3}}", "2 6 1 2a3 demo:1 3\n"),
        (
            "{{slice .Name 1 3}} {{slice .Any.Env 1}} {{html \"<a>\"}} {{urlquery \"a b/ä\"}} {{js \"'\"}}",
            "em [B=2] &lt;a&gt; a+b%2F%C3%A4 \\'",
        ),
        (
            "{{(index .By \"linux/arm\").OS}}{{index .By \"linux/arm\" \"variant\"}}{{json (index .By \"x\")}}",
            "linuxv7null",
        ),
        ("{{(.Any.Env | len)}} {{len (slice .Name 0 2)}}", "2 2"),
    ]);
}

#[test]
fn mistakes_are_told_with_their_column() {
    for (template, wanted) in [
        ("a{{", "column 2 of the template: this action does not end"),
        ("ä{{.Name", "column 2 of the template: this action does not end"),
        ("{{.Nope}}", "column 3 of the template: there is no .Nope here; there are Name, List, By"),
        (
            "{{range .List}}{{.Nope}}{{end}}",
            "column 18 of the template: there is no .Nope here; there are Digest",
        ),
        ("{{range .List}}", "column 3 of the template: this range has no {{end}}"),
        ("{{end}}", "this end belongs to no if, with or range"),
        ("{{if 1}}{{else}}{{else}}{{end}}", "this is the second else of one if"),
        ("{{if 1}}{{else with 2}}{{end}}", "}} or if is expected, and with stands here"),
        ("{{break}}", "this break is in no range"),
        ("{{define \"x\"}}{{end}}", "define is for templates of several parts"),
        ("{{nope .Name}}", "column 3 of the template: there is no function \"nope\"; there are and, eq"),
        ("{{$x}}", "there is no variable $x here; write $x := VALUE before it"),
        ("{{if 1}}{{$x := 1}}{{end}}{{$x}}", "there is no variable $x here"),
        ("{{.Name .Name}}", "only a function takes values"),
        ("{{.Name | .Name}}", "a function is expected behind |"),
        ("{{}}", "a value or a function is expected, and }} stands here"),
        ("{{(.Name}}", ") is expected, and }} stands here"),
        ("{{\"a}}", "this text does not end; write \""),
        ("{{\"\\y\"}}", "there is no such escape"),
        ("{{1x}}", "\"1x\" is no number"),
        ("{{'ab'}}", "'...' is one character"),
        ("{{#}}", "'#' stands where a value, a function or }} is expected"),
        ("{{/* x}}", "this comment does not end"),
        ("{{index .List 9}}", "there is no place 9 in a list of 2; the first is 0"),
        (
            "{{(index .By \"x\").OS}}",
            "there is nothing here that could have a .OS; {{json .}} shows what there is",
        ),
        ("{{.Name.X}}", "column 8 of the template: there is no .X of a text"),
        ("{{index .Name 0}}", "a text is not indexed by a number"),
        ("{{range .Name}}{{end}}", "range goes through lists, maps and up to a number, and this is a text"),
        ("{{printf \"%s\"}}", "there is no value for %s"),
        ("{{printf \"a\" 1}}", "there are 1 values more than verbs"),
        ("{{printf \"%y\" 1}}", "there is no %y"),
        ("{{printf \"%99999d\" 1}}", "is wider than 10000"),
        ("{{pad \"a\" 1 10001}}", "a number from 0 to 10000 is expected, and this is 10001"),
        ("{{eq .Name 1}}", "a text and a number cannot be compared"),
        ("{{lt true false}}", "true or false and true or false have no order"),
        ("{{len}}", "this function takes one value, and there are 0"),
        ("{{range 99999999999}}{{end}}", "it goes on for too long"),
        (&"{{if 1}}".repeat(65), "it goes deeper than 64 blocks and parentheses"),
        (&format!("{{{{{}", "(".repeat(100_000)), "this action does not end"),
        (&format!("{{{{{}}}}}", "(".repeat(100_000)), "it goes deeper than 64"),
    ] {
        let error = rendered(template);
        assert!(error.contains(wanted) && error.starts_with("column "), "{template}: {error}");
    }
}

#[test]
fn what_is_looked_at_is_known_before() {
    let mentions = |template: &str, field: &str| Template::parse(template).unwrap().mentions(field);
    for template in [
        "{{.Image}}",
        "{{json .}}",
        "{{range .List}}{{$.Image.X}}{{end}}",
        "{{$x := $}}",
        "{{with .}}{{end}}",
        "{{if 1}}{{(index .Image 1).X}}{{end}}",
        "{{range .List}}{{else}}{{.Image}}{{end}}",
    ] {
        assert!(mentions(template, "image"), "{template}");
    }
    for template in
        ["x", "{{.Name}}", "{{range .List}}{{.Image}}{{json .}}{{end}}", "{{with .List}}{{.}}{{end}}"]
    {
        assert!(!mentions(template, "image"), "{template}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn anything_is_a_template_or_none(template in "(\\PC|[{}()|.$\"' :=-]){0,40}") {
        rendered(&template);
    }

    #[test]
    fn any_words_are_a_template_or_none(words in proptest::collection::vec(prop_oneof![
        Just("{{"), Just("}}"), Just("{{- "), Just(" -}}"), Just("if "), Just("with "), Just("range "), Just("else "), Just("end"),
        Just("break"), Just("$x "), Just("$ "), Just(", "), Just(":= "), Just("= "), Just("| "), Just("("), Just(")"), Just("."),
        Just(".List "), Just(".Any"), Just(".Env "), Just(".Name "), Just("index "), Just("slice "), Just("printf "), Just("\"%5.2v\" "),
        Just("len "), Just("0 "), Just("-3 "), Just("9e9 "), Just("nil "), Just("json "), Just("join "), Just("eq "), Just("pad "),
    ], 0..24)) {
        rendered(&words.concat());
    }

    #[test]
    fn any_expression_has_a_value_or_an_error(words in proptest::collection::vec(prop_oneof![
        Just("index "), Just("slice "), Just("printf "), Just("\"%5.2v%s\" "), Just("len "), Just("0 "), Just("-3 "), Just("9e9 "),
        Just("nil "), Just("json "), Just("join "), Just("split "), Just("title "), Just("truncate "), Just("pad "), Just(".List "),
        Just(".By "), Just(".Any.Env "), Just(".Name "), Just("\"ä\" "), Just("| "), Just("eq "), Just("lt "), Just("and "), Just(". "),
    ], 1..8)) {
        rendered(&format!("{{{{range .List}}}}{{{{$x := 1}}}}{{{{{}}}}}{{{{end}}}}{{{{{}}}}}", words.concat(), words.concat()));
    }
}
