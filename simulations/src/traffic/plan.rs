//! What a made-up world is like. Plain data, so that a table of scenarios reads like one.

/// One world. Rates and pods are those of the whole watch; everything else is absent unless it is said.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Requests a second to the canary; they arrive as a Poisson stream.
    pub canary_rate: f64,
    /// Requests a second to the control.
    pub control_rate: f64,
    /// Pods of each arm; they share its requests evenly.
    pub pods: u32,
    /// How requests fail.
    pub errors: Errors,
    /// How long requests take.
    pub latency: Option<Latency>,
    /// A slow swing of both arms' error share.
    pub trend: Option<Trend>,
    /// Short spells in which both arms fail together.
    pub bursts: Option<Bursts>,
    /// The standard deviation of the log of a factor on both arms' error share that changes every ten minutes.
    pub drift: f64,
    /// One canary pod on a broken machine.
    pub bad_host: Option<BadHost>,
    /// A gauge next to the counters.
    pub gauge: Option<Gauge>,
    /// How reliably counters are read.
    pub scrapes: Scrapes,
}

/// How requests fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// The share of failing requests of the old release, 0 to 1.
    pub control: f64,
    /// The share of the canary once its fault shows.
    pub canary: f64,
    /// When the fault shows, seconds after the deployment.
    pub onset: f64,
    /// Whether errors come alone.
    pub clumps: Clumps,
}

/// How errors keep each other company.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clumps {
    /// Each request fails by itself.
    Alone,
    /// Whole clusters fail at once (a retry storm, one client, one batch); sizes as in
    /// [`Dice::cluster`](crate::Dice::cluster).
    Clusters {
        /// The chance of each further member, 0 to 1.
        ratio: f64,
        /// The largest cluster.
        largest: u32,
    },
    /// The level itself comes and goes between two looks: negative binomial counts of this variance over mean.
    Gamma {
        /// Variance over mean, above 1.
        index: f64,
    },
}

/// Lognormal durations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// The old release's median, seconds.
    pub median: f64,
    /// The standard deviation of the log.
    pub sigma: f64,
    /// How many times slower the canary is once its fault shows.
    pub canary_factor: f64,
    /// When the fault shows, seconds after the deployment.
    pub onset: f64,
    /// A canary that starts cold: so many times slower at first, fading with this time constant in seconds.
    pub cold_start: Option<(f64, f64)>,
}

/// A day in fast motion: the error share rises to `factor` times its start over the hour, like half a wave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// The share at the end of the hour over the share at its start.
    pub factor: f64,
    /// Whether history went through the same hour again and again (the same hour of earlier days) or was quiet.
    pub repeats: bool,
}

/// Bursts that both arms share, at random times of the hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// How many in the hour.
    pub count: u32,
    /// How long each, seconds.
    pub seconds: f64,
    /// The share of failing requests in one.
    pub share: f64,
}

/// The first canary pod fails more often than its siblings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BadHost {
    /// So many times as often.
    pub factor: f64,
}

/// A gauge with a memory: 20 + 10 times an autoregressive series of unit variance, so that half a spread is the margin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gauge {
    /// The correlation of a sample with the next one, 0 up to but not including 1.
    pub phi: f64,
    /// What the innovations are like.
    pub tails: Tails,
    /// By how many standard deviations the canary's level is higher.
    pub shift: f64,
    /// From when, seconds after the deployment.
    pub onset: f64,
}

/// The distribution of a gauge's innovations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tails {
    /// Normal.
    Gauss,
    /// Student's t with four degrees of freedom.
    StudentT4,
}

/// How reliably counters are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scrapes {
    /// The share of scrapes that fail, each pod by itself, 0 to 1.
    pub missing: f64,
    /// How often a pod restarts and its counters begin anew, an hour.
    pub restarts_per_hour: f64,
}

impl Traffic {
    /// Two arms of one pod each, `rate` requests a second each, of which `control` and `canary` fail.
    #[must_use]
    pub fn errors(rate: f64, control: f64, canary: f64) -> Self {
        Self {
            canary_rate: rate,
            control_rate: rate,
            pods: 1,
            errors: Errors { control, canary, onset: 0.0, clumps: Clumps::Alone },
            latency: None,
            trend: None,
            bursts: None,
            drift: 0.0,
            bad_host: None,
            gauge: None,
            scrapes: Scrapes { missing: 0.0, restarts_per_hour: 0.0 },
        }
    }

    /// Two arms without errors whose requests take lognormal times: median 100 ms, sigma 0.6, hence p95 268 ms; the
    /// canary is `factor` times slower.
    #[must_use]
    pub fn latency(rate: f64, factor: f64) -> Self {
        let latency =
            Latency { median: 0.1, sigma: 0.6, canary_factor: factor, onset: 0.0, cold_start: None };
        Self { latency: Some(latency), ..Self::errors(rate, 0.0, 0.0) }
    }

    /// A world of one gauge and no requests.
    #[must_use]
    pub fn gauge(phi: f64, tails: Tails, shift: f64) -> Self {
        Self { gauge: Some(Gauge { phi, tails, shift, onset: 0.0 }), ..Self::errors(0.0, 0.0, 0.0) }
    }
}
