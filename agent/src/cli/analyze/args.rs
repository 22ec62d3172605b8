//! What `turnback analyze` can be told, and how single values are read.

use crate::signals::check_selector;
use jiff::Timestamp;
use rules::ids::{EnvironmentName, ServiceName, Version};
use rules::series::whole_value;
use rules::units::{Quantity, Span};
use std::path::PathBuf;

/// Below the help of the command.
pub(in crate::cli) const EXAMPLES: &str = "\
Examples:
  Canary beside control, told apart by a label, straight from a Prometheus:
    turnback analyze --prometheus http://prometheus:9090 \\
      --errors 'http_requests_total{job=\"checkout\"}' --bad 'code=5..' \\
      --latency 'http_request_duration_seconds_bucket{job=\"checkout\"}' \\
      --canary version=v2 --for 10m

  What was deployed just now against the two hours before:
    turnback analyze --prometheus http://prometheus:9090 \\
      --errors 'http_requests_total{job=\"checkout\"}' --bad 'code=5..' --deployed-at now --for 15m

  A deployment of the past, judged at once:
    turnback analyze … --deployed-at 2027-01-15T12:00:00Z --for 30m

  Sources, signals and matrix from the configuration:
    turnback analyze --config turnback.yaml --service checkout --version v2 --previous v1

  For a pipeline: a report for its pages, the words for its log:
    turnback analyze … --report analysis.junit.xml --report analysis.md

It ends as soon as something is shown. Exit codes: 0 healthy, 1 degraded, 3 inconclusive (the time is over, and nothing
was shown either way), 4 blind (telemetry is broken), 2 wrong usage, 78 bad configuration, 130 interrupted.";

/// What is analysed, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The Prometheus that is asked, or anything with its query API
    #[arg(long, value_name = "URL", help_heading = "Where")]
    pub prometheus: Option<String>,
    /// The environment variable that holds a bearer token for it
    #[arg(long, value_name = "NAME", requires = "prometheus", help_heading = "Where")]
    pub bearer_env: Option<String>,
    /// A header for it, such as a tenant; can be given several times. Not for secrets: others see command lines
    #[arg(long, value_name = "NAME=VALUE", requires = "prometheus", value_parser = pair, help_heading = "Where")]
    pub header: Vec<(String, String)>,
    /// How far behind now its data are complete; more if it gets them by remote write [default: 2s]
    #[arg(long, value_name = "DURATION", requires = "prometheus", value_parser = Span::parse, help_heading = "Where")]
    pub settle: Option<Span>,
    /// A configuration to take sources, signals, matrix and comparison from; flags win over it
    #[arg(long, value_name = "PATH", requires = "service", help_heading = "Where")]
    pub config: Vec<PathBuf>,
    /// The service: that of the configuration, or a name for the report
    #[arg(long, value_name = "NAME", value_parser = |text: &str| ServiceName::new(text), help_heading = "Where")]
    pub service: Option<ServiceName>,
    /// Where it runs [default: the service's only environment, or production]
    #[arg(long, value_name = "NAME", value_parser = |text: &str| EnvironmentName::new(text), help_heading = "Where")]
    pub environment: Option<EnvironmentName>,

    /// Counters of all requests: an instant-vector selector, without `rate` or `sum`
    #[arg(long, value_name = "SELECTOR", requires = "bad", value_parser = selector, help_heading = "What")]
    pub errors: Option<String>,
    /// Which of them are bad: a label and a regular expression over its whole value; all of several must match
    #[arg(long, value_name = "LABEL=REGEX", requires = "errors", value_parser = pattern, help_heading = "What")]
    pub bad: Vec<(String, String)>,
    /// Buckets of a histogram of durations in seconds, classic (…_bucket) or native
    #[arg(long, value_name = "SELECTOR", value_parser = selector, help_heading = "What")]
    pub latency: Option<String>,
    /// The quantile of the latency that is compared [default: 0.95]
    #[arg(long, value_name = "SHARE", requires = "latency", help_heading = "What")]
    pub quantile: Option<f64>,
    /// Series that are 1 when up and 0 when down
    #[arg(long, value_name = "SELECTOR", value_parser = selector, help_heading = "What")]
    pub availability: Option<String>,
    /// A value of which more is worse, such as the depth of a queue; it can hold a pass back, and shows nothing alone
    #[arg(long, value_name = "SELECTOR", value_parser = selector, help_heading = "What")]
    pub gauge: Option<String>,
    /// Series of 0 and 1 that say which targets ought to report, for the coverage
    #[arg(long, value_name = "SELECTOR", value_parser = selector, help_heading = "What")]
    pub targets: Option<String>,

    /// The series of the canary; several must all match. {{version}} stands for --version
    #[arg(long, value_name = "LABEL=REGEX", value_parser = pattern, help_heading = "Against what")]
    pub canary: Vec<(String, String)>,
    /// The series of the control [default: all that are not the canary's]. {{previous}} stands for --previous
    #[arg(long, value_name = "LABEL=REGEX", requires = "canary", value_parser = pattern, help_heading = "Against what")]
    pub control: Vec<(String, String)>,
    /// Count the time before as well as the control: small services are found out sooner, if the day goes on as it was
    #[arg(long, requires = "canary", help_heading = "Against what")]
    pub with_before: bool,
    /// The share of the traffic that the canary ought to get; less than half of it is a finding
    #[arg(long, value_name = "SHARE", requires = "canary", value_parser = Quantity::parse, help_heading = "Against what")]
    pub share: Option<Quantity>,
    /// The label that tells instances apart [default: pod, or instance]
    #[arg(long, value_name = "LABEL", help_heading = "Against what")]
    pub instance: Option<String>,
    /// The release that is judged
    #[arg(long = "version", alias = "canary-version", value_name = "VERSION", help_heading = "Against what")]
    #[arg(value_parser = |text: &str| Version::new(text))]
    pub release: Option<Version>,
    /// The release before it
    #[arg(long, alias = "control-version", value_name = "VERSION", help_heading = "Against what")]
    #[arg(value_parser = |text: &str| Version::new(text))]
    pub previous: Option<Version>,
    /// When it was deployed: now, RFC 3339, or seconds since 1970. Without a canary the time before is the reference
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Against what")]
    pub deployed_at: Option<Moment>,
    /// How long a time before the deployment the baseline is taken from [default: 2h]
    #[arg(long, value_name = "DURATION", value_parser = Span::parse, help_heading = "Against what")]
    pub before: Option<Span>,
    /// How long before the deployment the baseline ends, since a rollout takes time [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = Span::parse, help_heading = "Against what")]
    pub gap: Option<Span>,

    /// When it is over at the latest, from the deployment or from now
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = Span::parse, help_heading = "How")]
    pub lasting: Span,
    /// Time between two looks [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = Span::parse, help_heading = "How")]
    pub every: Option<Span>,
    /// Nothing is called healthy before [default: 2m, at most half of --for]
    #[arg(long, value_name = "DURATION", value_parser = Span::parse, help_heading = "How")]
    pub soak: Option<Span>,
    /// Latency of a release this young is not counted: caches are cold [default: 1m, at most a fifth of --for]
    #[arg(long, value_name = "DURATION", value_parser = Span::parse, help_heading = "How")]
    pub warm_up: Option<Span>,
    /// Without data of a signal that is needed for so long it is over: blind [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = Span::parse, help_heading = "How")]
    pub blind_after: Option<Span>,
    /// A newest sample older than this is no news; at least twice the scrape interval [default: 90s]
    #[arg(long, value_name = "DURATION", value_parser = Span::parse, help_heading = "How")]
    pub max_sample_age: Option<Span>,
    /// The matrix: one that ships (canary, standard, cautious), one of the configuration, or a file [default: canary]
    #[arg(long, value_name = "NAME|FILE", help_heading = "How")]
    pub matrix: Option<String>,
    /// How many good releases may be called degraded [default: 0.01]
    #[arg(long, value_name = "SHARE", help_heading = "How")]
    pub alpha: Option<f64>,
    /// How many bad releases may be called healthy [default: 0.05]
    #[arg(long, value_name = "SHARE", help_heading = "How")]
    pub beta: Option<f64>,
    /// How many times the reference is tolerated before it is called worse [default: 1.25]
    #[arg(long, value_name = "TIMES", help_heading = "How")]
    pub margin: Option<f64>,
    /// How many requests fail together, 1 if each by itself [default: from the past, or 3]
    #[arg(long, value_name = "NUMBER", help_heading = "How")]
    pub dispersion: Option<f64>,

    /// Write the report to a file as well: .json, .xml (JUnit), .md, or as --output says; can be given several times
    #[arg(long, value_name = "FILE", help_heading = "Answer")]
    pub report: Vec<PathBuf>,
}

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Just now.
    Now,
    /// Then.
    At(Timestamp),
}

fn moment(text: &str) -> Result<Moment, String> {
    if text == "now" {
        return Ok(Moment::Now);
    }
    let seconds = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds.or_else(|| text.parse().ok()).map(Moment::At).ok_or_else(|| {
        "expected now, a time with its offset such as 2027-01-15T12:00:00Z, or seconds since 1970".to_owned()
    })
}

fn selector(text: &str) -> Result<String, String> {
    match check_selector(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(problem) => Err(problem.to_string()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected a name, `=` and a value, such as version=v2".to_owned()),
    }
}

fn pattern(text: &str) -> Result<(String, String), String> {
    let (label, pattern) = pair(text)?;
    let letter = |c: char| c == '_' || c.is_ascii_alphabetic();
    if !label.starts_with(letter) || !label.chars().all(|c| letter(c) || c.is_ascii_digit()) {
        return Err(format!("{label:?} is not the name of a label; write for example version=v2"));
    }
    // `code=~5..` is what one types who has PromQL in the fingers.
    if pattern.starts_with('~') {
        return Err("the value is a regular expression anyway: leave the ~ out".to_owned());
    }
    let filled = pattern.replace("{{version}}", "v").replace("{{previous}}", "v");
    match whole_value(&filled) {
        Ok(_) => Ok((label, pattern)),
        Err(_) => Err(format!("{pattern:?} is not a regular expression; write for example 5..")),
    }
}
