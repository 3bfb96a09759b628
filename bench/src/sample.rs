//! Repeated measurements: contenders take turns, so that what disturbs the machine disturbs all alike.

/// What several runs of one contender gave, in ns an operation.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    ns: Vec<f64>,
}

impl Sample {
    pub fn median_ns(&self) -> f64 {
        let mut sorted = self.ns.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// How far the runs lie apart, in parts of the median.
    pub fn spread(&self) -> f64 {
        let most = self.ns.iter().copied().fold(f64::MIN, f64::max);
        let least = self.ns.iter().copied().fold(f64::MAX, f64::min);
        (most - least) / self.median_ns()
    }
}

/// A contender: its name, and one run, which gives ns an operation.
pub type Contender<'c> = (&'c str, Box<dyn FnMut() -> f64 + 'c>);

/// Runs all contenders in turn, `rounds` times.
pub fn take_turns(rounds: usize, mut contenders: Vec<Contender<'_>>) -> Vec<Sample> {
    let mut samples: Vec<Sample> =
        contenders.iter().map(|(name, _)| Sample { name: (*name).to_owned(), ns: Vec::new() }).collect();
    for _ in 0..rounds {
        for ((_, run), sample) in contenders.iter_mut().zip(&mut samples) {
            sample.ns.push(run());
        }
    }
    samples
}
