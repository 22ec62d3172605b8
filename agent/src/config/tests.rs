//! The configuration as people will write it: right, wrong in seventy ways, and damaged at random.

mod broken;
mod cases;
mod example;
mod hostile;
mod layering;

use super::*;
use std::path::Path;

/// A directory with files in it.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(directory)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Inputs with these files, an environment of this process's own and nothing else.
    pub(super) fn inputs(&self, names: &[&str]) -> Inputs {
        let environment = BTreeMap::from([("HOME".to_owned(), OsString::from("/home/ada"))]);
        Inputs { paths: names.iter().map(|name| self.path(name)).collect(), environment, ..Inputs::default() }
    }
}

/// Checks one text under a name.
pub(super) fn check_text(name: &str, text: &str) -> CheckReport {
    check(&Files::of(&[(name, text)]).inputs(&[name]))
}

/// Loads one YAML text, and shows the report if it is not good.
pub(super) fn load_text(text: &str) -> Loaded {
    let files = Files::of(&[("turnback.yaml", text)]);
    Config::load(&files.inputs(&["turnback.yaml"])).unwrap_or_else(|report| panic!("{report}"))
}

pub(super) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(super) fn environment(name: &str) -> EnvironmentName {
    EnvironmentName::new(name).unwrap()
}

pub(super) fn file_name(problem: &Problem) -> &str {
    Path::new(&problem.source).file_name().and_then(|name| name.to_str()).unwrap_or(&problem.source)
}
