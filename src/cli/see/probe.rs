//! What a probe saw, for people and for programs.

use serde::Serialize;

use crate::explain::Explanation;
use crate::explain::live::{Agreement, Answer, Direction, Live, Step};

/// What came of `--live`.
#[derive(Debug, Serialize)]
pub(super) struct Probed {
    /// What was seen; absent where there was nothing to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) live: Option<Live>,
    /// Whether it is what was said.
    pub(super) agreement: Agreement,
}

impl Probed {
    /// There is nothing to send.
    pub(super) fn nothing() -> Self {
        let difference =
            Some("there is nothing to send: the question says already that it cannot arrive".to_owned());
        Self { live: None, agreement: Agreement { agrees: None, difference } }
    }
}

/// The document: an explanation, and what the probe saw of it.
#[derive(Debug, Serialize)]
pub(super) struct Whole<'a> {
    /// What was said.
    #[serde(flatten)]
    pub(super) explanation: &'a Explanation,
    /// What was seen.
    #[serde(flatten)]
    pub(super) probed: Option<&'a Probed>,
}

/// The page behind that of the explanation.
pub(super) fn text(probed: &Probed, colour: bool) -> String {
    let paint = |code: &str, text: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let mut text = String::from("\nlive: ");
    if let Some(live) = &probed.live {
        text.push_str(&heading(live));
        let lines = lines(live);
        let width =
            |of: fn(&Line) -> &String| lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0);
        let (places, hooks) = (width(|line| &line.place), width(|line| &line.hook));
        let mut direction = Direction::There;
        for line in &lines {
            if line.direction != direction {
                direction = line.direction;
                text.push_str(if direction == Direction::Back {
                    "and the answer back:\n"
                } else {
                    "and an ICMP error about it:\n"
                });
            }
            let (place, hook, what) = (&line.place, &line.hook, &line.what);
            let row = format!("     {place:<places$}  {hook:<hooks$}  {what}");
            text.push_str(&if line.drops { paint("31", row.trim_end()) } else { row.trim_end().to_owned() });
            text.push('\n');
        }
        text.push_str(&facts(live));
        let tone = if live.outcome.is_through() { "32" } else { "31" };
        text.push_str(&format!("seen: {}\n", paint(tone, &live.words)));
    }
    text.push_str(&match (probed.agreement.agrees, &probed.agreement.difference) {
        (Some(true), _) => "the probe agrees with what was said\n".to_owned(),
        (Some(false), Some(words)) => format!("{}\n", paint("31", &format!("the two disagree: {words}"))),
        (_, Some(words)) => format!("{words}\n"),
        (_, None) => String::new(),
    });
    text
}

fn heading(live: &Live) -> String {
    let from = live.source.map_or_else(|| "nowhere".to_owned(), |source| source.to_string());
    let verb = if live.awaited { "came" } else { "sent" };
    format!("{verb} from {from} to {}\n", live.destination)
}

/// A hook that the packet went through.
struct Line {
    direction: Direction,
    place: String,
    hook: String,
    what: String,
    drops: bool,
}

/// One line a hook: by which interfaces, what rules it matched, and what became of its addresses.
fn lines(live: &Live) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut last: Option<&Step> = None;
    for step in &live.steps {
        let same = |before: &Step| {
            (&before.place, before.direction, before.hook, &before.input, &before.output)
                == (&step.place, step.direction, step.hook, &step.input, &step.output)
                && (before.family == "bridge") == (step.family == "bridge")
        };
        if !last.is_some_and(same) {
            let layer = if step.family == "bridge" { "bridge " } else { "" };
            let what = [("from ", &step.input), ("to ", &step.output)];
            let what: Vec<String> =
                what.iter().filter_map(|(word, name)| Some(format!("{word}{}", name.as_ref()?))).collect();
            lines.push(Line {
                direction: step.direction,
                place: step.place.clone(),
                hook: format!("{layer}{}", step.hook),
                what: what.join(" "),
                drops: false,
            });
        }
        if let Some(line) = lines.last_mut() {
            let moved = last.filter(|before| before.direction == step.direction);
            for (word, before, now) in [
                ("destination", moved.and_then(|before| before.to), step.to),
                ("source", moved.and_then(|before| before.from), step.from),
            ] {
                if let (Some(before), Some(now)) = (before, now)
                    && before != now
                {
                    line.what.push_str(&format!(", {word} now {now}"));
                }
            }
            for rule in step.rules.iter().filter(|rule| rule.verdict != "continue") {
                let (family, table) = (&step.family, &step.table);
                line.what.push_str(&format!(
                    "; {family} {table} {} handle {} {}",
                    rule.chain, rule.handle, rule.verdict
                ));
            }
            if step.verdict == "drop" {
                line.drops = true;
                if step.rules.last().is_none_or(|rule| rule.verdict != "drop") {
                    line.what.push_str(&format!(
                        "; {} {} {} drop by its policy",
                        step.family, step.table, step.chain
                    ));
                }
            }
        }
        last = Some(step);
    }
    lines
}

/// The answer, the tracked connection, counters, the test of size, and what could not be seen.
fn facts(live: &Live) -> String {
    let answer = match &live.answer {
        Answer::Answered => "the answer came".to_owned(),
        Answer::Reset => "a TCP reset".to_owned(),
        Answer::Icmp { from, words, .. } => {
            format!(
                "ICMP from {}: {words}",
                from.map_or_else(|| "somebody".to_owned(), |from| from.to_string())
            )
        }
        Answer::Refused { words } => format!("none: {words}"),
        Answer::Silence => "none".to_owned(),
        Answer::Elsewhere { answered: true } => "its connection was answered".to_owned(),
        Answer::Elsewhere { answered: false } => "none was seen".to_owned(),
        Answer::NoPacket => String::new(),
    };
    let mut text = String::new();
    let mut line = |title: &str, what: &str| text.push_str(&format!("{title}: {what}\n"));
    if !answer.is_empty() {
        line("answer", &answer);
    }
    if let Some(tracked) = &live.tracked {
        let (from, to, by, answer) = (tracked.from, tracked.to, tracked.answered_by, tracked.answered_to);
        line("tracked", &format!("{from} to {to}, answered by {by} to {answer}"));
    }
    for moved in &live.counters {
        line(
            "counted",
            &format!(
                "{} of {} rose by {}: packets that {}",
                moved.counter, moved.place, moved.by, moved.means
            ),
        );
    }
    if let Some(size) = &live.size {
        let what = match (size.answered, size.told) {
            (true, _) => "answered".to_owned(),
            (false, Some(mtu)) => {
                let then =
                    if size.pieces == Some(true) { "answered in fragments" } else { "its answer got lost" };
                format!("does not fit, and the sender is told of an MTU of {mtu}; {then}")
            }
            (false, None) => "lost without a word".to_owned(),
        };
        line(
            "size",
            &format!("an echo request of {} bytes to {}, not to be fragmented: {what}", size.bytes, size.to),
        );
    }
    for what in &live.unseen {
        line("not seen", what);
    }
    text
}
