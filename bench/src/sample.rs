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

/// A contender: its name, and one run, which gives ns an operation, or several such figures.
pub type Contender<'c, T = f64> = (&'c str, Box<dyn FnMut() -> T + 'c>);

/// Runs all contenders in turn, `rounds` times.
pub fn take_turns(rounds: usize, contenders: Vec<Contender<'_>>) -> Vec<Sample> {
    fn one_figure<'c>((name, mut run): Contender<'c>) -> Contender<'c, [f64; 1]> {
        (name, Box::new(move || [run()]))
    }
    let [samples] = take_turns_of(rounds, contenders.into_iter().map(one_figure).collect());
    samples
}

/// The same where each run gives several figures: the samples of the first one of all contenders, then those of the next.
pub fn take_turns_of<const FIGURES: usize>(
    rounds: usize,
    mut contenders: Vec<Contender<'_, [f64; FIGURES]>>,
) -> [Vec<Sample>; FIGURES] {
    let none = |(name, _): &Contender<'_, _>| Sample { name: (*name).to_owned(), ns: Vec::new() };
    let mut samples: [Vec<Sample>; FIGURES] = std::array::from_fn(|_| contenders.iter().map(none).collect());
    for _ in 0..rounds {
        for (index, (_, run)) in contenders.iter_mut().enumerate() {
            for (figure, ns) in samples.iter_mut().zip(run()) {
                figure[index].ns.push(ns);
            }
        }
    }
    samples
}
