use super::*;

#[test]
fn the_terminal_has_a_tree() {
    let wanted = "\
host
├─ uplink eth0  192.0.2.1/24
├─ network net0: bridge lks-net0  10.0.0.1/24  (masqueraded)
│  ├─ default/shop-0-7c9f8b<&>\" eth0  10.0.0.2, fd00:1234:5678:9abc:def0:1234:5678:9abc  up  [lks000000000000]
│  │  ├─ 127.0.0.1:5353 -> 53/udp
│  │  └─ *:8080 -> 80/tcp
│  └─ 010001000100 eth0  10.0.0.3  up  [lks000000000001]
";
    let text = text(&samples::of(&[2, 1]));
    assert!(text.starts_with(wanted), "{text}");
    assert!(text.contains(
        "└─ network net1: bridge lks-net1  10.1.0.1/24  (wall: closed to other walled networks)\n"
    ));
}

#[test]
fn dot_and_mermaid_name_everything_and_escape_it() {
    let graph = samples::of(&[7, 2]);
    let (dot, mermaid) = (dot(&graph), mermaid(&graph));
    for text in [&dot, &mermaid] {
        for word in ["eth0", "192.0.2.1/24", "lks-net0", "10.0.0.1/24", "lks-net1", "8080", "wall: closed"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
    assert!(dot.contains("shop-0-7c9f8b<&>\\\"") && dot.starts_with("digraph") && dot.ends_with("}\n"));
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    assert!(mermaid.contains("shop-0-7c9f8b#lt;#amp;#gt;#quot;"));
    assert_eq!(mermaid.matches("subgraph").count(), 2);
    assert!(mermaid.contains(":::doubtful") && mermaid.contains(":::bad") && mermaid.contains("-.-"));
}

/// Rectangles of containers, by their corners.
fn boxes(svg: &str) -> Vec<[usize; 4]> {
    let number = |line: &str, key: &str| -> Option<usize> {
        line.split(&format!(" {key}=\"")).nth(1)?.split('"').next()?.parse().ok()
    };
    let rectangles = svg.lines().filter(|line| line.starts_with("<rect x="));
    let corners = rectangles.filter(|line| !line.contains("#fafbfc")).filter_map(|line| {
        Some([number(line, "x")?, number(line, "y")?, number(line, "width")?, number(line, "height")?])
    });
    corners.collect()
}

#[test]
fn no_box_of_the_svg_lies_on_another_and_none_beyond_the_edge() {
    for sizes in [&[3][..], &[100], &[1, 2, 40], &[]] {
        let svg = svg(&samples::of(sizes));
        let size = |key: &str| -> usize {
            svg.split(&format!(" {key}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let boxes = boxes(&svg);
        assert_eq!(
            boxes.len(),
            sizes.iter().sum::<usize>() + sizes.len() + 3,
            "containers, bridges, host, uplink, outside"
        );
        for (at, [x, y, w, h]) in boxes.iter().enumerate() {
            assert!(x + w <= size("width") && y + h <= size("height"));
            for [x2, y2, w2, h2] in &boxes[at + 1..] {
                let apart = x + w <= *x2 || x2 + w2 <= *x || y + h <= *y2 || y2 + h2 <= *y;
                assert!(apart, "{sizes:?}: {:?} lies on {:?}", [x, y, w, h], [x2, y2, w2, h2]);
            }
        }
        assert!(!svg.contains("7c9f8b<&"), "names are escaped");
    }
}

/// For eyes: `LINKSPAN_PICTURES=DIRECTORY cargo test pictures -- --ignored` writes some to look at.
#[test]
#[ignore = "writes pictures to look at"]
fn pictures_are_written_where_they_are_asked_for() {
    let directory = std::env::var_os("LINKSPAN_PICTURES").unwrap();
    for (name, sizes) in [("3", &[3][..]), ("100", &[100]), ("several", &[7, 2, 30]), ("none", &[])] {
        let path = std::path::Path::new(&directory).join(format!("{name}.svg"));
        std::fs::write(path, svg(&samples::of(sizes))).unwrap();
    }
}
