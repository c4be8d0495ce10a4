//! What a hit costs at the pace of a usual node, where waking up is most of it: in many pairs with the echo, so that
//! the answer comes with how sure it is.

use super::{Bench, measure, questions, role};
use crate::charts::{Bar, Chart};
use crate::contender::{Contender, Pacing};
use crate::load::Wait;
use crate::names;
use crate::pace::Pace;
use crate::peers::{CEILING, OURS, Size};
use crate::questions::Set;
use crate::statistics::{interval, median, paired};
use crate::tables::{self, cpu, of, show};

/// Queries per second on a usual node.
const USUAL: f64 = 2000.0;
/// Pairs for each round of the other scenarios: 30 with the default of 5.
const PAIRS: usize = 6;

const COLUMNS: [&str; 6] = ["server", "CPU us/query", "of the echo's", "95 % from", "to", "pairs"];

impl Bench<'_> {
    /// The echo and sidestep, and whoever was named with `--only`.
    pub fn pairs(&mut self) -> bool {
        let set = Set::even(names::warm_set());
        let answer = names::mean_answer_size(set.questions(), false);
        let size = Size { workers: 1, entries: set.questions().len(), answer };
        let named = !self.arguments.only.is_empty();
        let servers = self.servers(|peer| named || [CEILING, OURS].contains(&peer.name), size);
        let asked = servers.iter().map(|server| Contender::new(server, questions(&set, server.name)));
        let mut contenders: Vec<_> = asked.collect();
        let mut plan = self.plan(self.manner(Wait::Spin), Pacing::Fixed(Pace::PerSecond(USUAL)));
        plan.rounds *= PAIRS;
        let right = measure(&mut contenders, &plan);
        let ceiling = contenders.iter().find(|c| c.name == CEILING);
        let mut bars = Vec::new();
        let mut rows = Vec::new();
        for c in &contenders {
            let ratios = ceiling.map(|echo| paired(c, echo, cpu, |a, b| a / b)).unwrap_or_default();
            let (ratio, range) = (median(ratios.iter().copied()), interval(&ratios));
            rows.push(vec![
                c.label.clone(),
                show(of(c, cpu), 2, ""),
                show(ratio, 3, "x"),
                show(range.map(|(from, _)| from), 3, "x"),
                show(range.map(|(_, to)| to), 3, "x"),
                ratios.len().to_string(),
            ]);
            if let Some(value) = of(c, cpu) {
                let text = format!("{value:.1} ({})", show(ratio, 2, "x"));
                bars.push(Bar { label: c.label.clone(), value, text, role: role(c.name) });
            }
        }
        let title = "Hits at 2,000 queries per second, in pairs with the echo";
        self.report.table(title, &COLUMNS, &rows, &tables::remarks(&contenders));
        let what = "CPU microseconds per query (and of the echo's), less is better".to_owned();
        self.report.chart(Chart { file: "pairs".to_owned(), title: title.to_owned(), what, bars });
        right
    }
}
