//! What was measured, as text, as a line of a Markdown table, or as JSON.

use serde::Serialize;

use crate::{Outcome, Setting};

/// Kontor's figure of each run beside the limit's.
#[derive(Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Of what, and by which time.
    pub unit: &'static str,
    /// Kontor, a figure a run.
    pub kontor: Vec<f64>,
    /// The limit, a figure a run.
    pub limit: Vec<f64>,
    /// What the limit is.
    pub limit_is: String,
    /// What the ratio should be.
    pub goal: &'static str,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// The least, the middle and the greatest.
#[derive(Clone, Copy, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of some figures; of none, zeros.
    pub fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        Self { min: at(0), median: at(sorted.len() / 2), max: at(sorted.len().saturating_sub(1)) }
    }

    /// The middle, and the rest in brackets.
    pub fn text(self) -> String {
        format!("{} ({} to {})", number(self.median), number(self.min), number(self.max))
    }
}

/// A figure with as many digits as it deserves.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (index, digit) in digits.char_indices() {
                if index > 0 && (digits.len() - index) % 3 == 0 && !text.ends_with('-') {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Figure {
    /// Kontor's figure by the limit's, a ratio a run.
    pub fn ratios(&self) -> Vec<f64> {
        self.kontor.iter().zip(&self.limit).map(|(kontor, limit)| kontor / limit).collect()
    }

    /// Shows it.
    pub fn show(&self, setting: &Setting) -> Outcome {
        let spreads = [&self.kontor, &self.limit, &self.ratios()].map(|all| Spread::of(all));
        let [kontor, limit, ratio] = spreads;
        if setting.json {
            let all = serde_json::json!({
                "figure": self, "kontor": kontor, "limit": limit, "ratio": ratio,
            });
            println!("{all}");
            return Ok(());
        }
        println!("{}, {}", self.name, self.unit);
        println!("  kontor  {}", kontor.text());
        println!("  limit   {}: {}", limit.text(), self.limit_is);
        println!("  ratio   {}; goal {}", ratio.text(), self.goal);
        for note in &self.notes {
            println!("  {note}");
        }
        println!(
            "\n| {}, {} | {} | {} | {} | {} |",
            self.name,
            self.unit,
            kontor.text(),
            limit.text(),
            ratio.text(),
            self.goal
        );
        Ok(())
    }
}
