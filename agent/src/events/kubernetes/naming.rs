//! What a workload is called here: service and environment.

use super::KubernetesSourceConfig;
use rules::ids::{BadName, EnvironmentName, ServiceName};
use serde_json::Value;

/// A workload's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) service: ServiceName,
    pub(super) environment: EnvironmentName,
}

/// The names of an object. Errors: what its labels make is no name.
pub(super) fn names(config: &KubernetesSourceConfig, object: &Value) -> Result<Names, BadName> {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default();
    let marked = |name: &str| ["labels", "annotations"].iter().find_map(|map| metadata[map][name].as_str());
    let name = marked(&config.name_from).unwrap_or_else(|| text("name"));
    let fill = |template: &str| fill(template, name, text("namespace"), text("name"));
    let environment = config.environment_from.as_deref().and_then(marked);
    let environment = environment.map_or_else(|| fill(&config.environment), str::to_owned);
    Ok(Names {
        service: ServiceName::new(fill(&config.service))?,
        environment: EnvironmentName::new(environment)?,
    })
}

/// Values are put in once; what they hold is no placeholder.
fn fill(template: &str, name: &str, namespace: &str, object: &str) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        filled.push_str(before);
        let (placeholder, after) = behind.split_once("}}").unwrap_or((behind, ""));
        filled.push_str(match placeholder.trim() {
            "name" => name,
            "namespace" => namespace,
            _ => object,
        });
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(yaml: &str) -> KubernetesSourceConfig {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn names_come_from_labels_and_else_from_the_object() {
        let object = json!({"metadata": {"name": "checkout-v2", "namespace": "shop",
            "labels": {"app.kubernetes.io/name": "checkout"}, "annotations": {"stage": "staging"}}});
        let both = |yaml: &str, object: &Value| {
            let names = names(&config(yaml), object).unwrap();
            (names.service.to_string(), names.environment.to_string())
        };
        let of = |service: &str, environment: &str| (service.to_owned(), environment.to_owned());
        assert_eq!(both("services: ['*']", &object), of("checkout", "production"));
        let more = "{services: ['*'], service: '{{namespace}}/{{name}}', environment_from: stage}";
        assert_eq!(both(more, &object), of("shop/checkout", "staging"));
        let own = "{services: ['*'], service: '{{ object }}', environment: 'eu-{{namespace}}'}";
        assert_eq!(both(own, &object), of("checkout-v2", "eu-shop"));
        let plain = json!({"metadata": {"name": "web", "namespace": "shop"}});
        assert_eq!(both("services: ['*']", &plain), of("web", "production"));
    }

    #[test]
    fn a_name_that_is_none_is_refused_and_a_value_is_no_placeholder() {
        let object = json!({"metadata": {"name": "web", "annotations": {"who": "{{namespace}} x"}}});
        assert!(names(&config("{services: ['*'], name_from: who}"), &object).is_err());
    }
}
