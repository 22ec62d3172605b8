//! Configurations with one mistake each.

/// A name, the text, and the problems in order: line, key, a part of what is said.
pub(super) type Case = (&'static str, &'static str, &'static [(usize, &'static str, &'static str)]);

/// One broken configuration each.
pub(super) const CASES: &[Case] = &[
    // --- the text itself
    ("unclosed bracket", "version: 1\napi: { listen: x\nlog: {}\n", &[(0, "", "not YAML")]),
    ("tab as indentation", "api:\n\tlisten: 127.0.0.1:1\n", &[(2, "", "not YAML")]),
    ("wrong indentation", "api:\n    listen: 127.0.0.1:1\n  token: { env: X }\n", &[(3, "", "not YAML")]),
    ("a list", "- a\n", &[(1, "", "the file holds a list")]),
    ("one word", "hello\n", &[(1, "", "the file holds a single value")]),
    ("nothing", "", &[(0, "", "the file is empty")]),
    ("only comments", "# nothing\n", &[(0, "", "the file is empty")]),
    ("two documents", "version: 1\n---\nversion: 1\n", &[(2, "", "a second document")]),
    ("unknown alias", "api: *nowhere\n", &[(1, "", "not YAML")]),
    ("a tag", "api: !env { listen: X }\n", &[(1, "", "the tag !env means nothing here")]),
    ("a list as a key", "? [a, b]\n: 1\n", &[(1, "", "a list cannot be a key")]),
    (
        "a merge of a list of words",
        "defaults:\n  watch: { <<: [a] }\n",
        &[(2, "defaults.watch.<<", "`<<` is given a single value")],
    ),
    // --- keys
    ("unknown key", "version: 1\nservces: {}\n", &[(2, "servces", "did you mean `services`?")]),
    ("unknown key inside", "api:\n  listn: 127.0.0.1:1\n", &[(2, "api.listn", "did you mean `listen`?")]),
    ("unknown key without a near one", "api:\n  port: 1\n", &[(2, "api.port", "one of: listen, token")]),
    ("duplicate key", "version: 1\nlog: {}\nlog: {}\n", &[(3, "log", "it is already in line 2")]),
    (
        "duplicate key in a flow",
        "api: { listen: '127.0.0.1:1', listen: '127.0.0.1:2' }\n",
        &[(1, "api.listen", "given twice")],
    ),
    (
        "missing key",
        "signals:\n  prometheus:\n    main:\n      timeout: 1s\n",
        &[(4, "signals.prometheus.main", "the key `url` is missing")],
    ),
    (
        "missing key that was mistyped",
        "signals:\n  prometheus:\n    main: { ulr: 'http://h' }\n",
        &[(3, "signals.prometheus.main.ulr", "did you mean `url`?")],
    ),
    // --- types
    ("a list where a map belongs", "api: [a]\n", &[(1, "api", "expected: a map")]),
    ("a word where a map belongs", "log: debug\n", &[(1, "log", "found the text \"debug\"")]),
    (
        "a word where a list belongs",
        "services: { a: { environments: production } }\n",
        &[(1, "services.a.environments", "expected: a list")],
    ),
    (
        "a word where a number belongs",
        "defaults:\n  guards:\n    per_day: many\n",
        &[(3, "defaults.guards.per_day", "a whole number from 0 to")],
    ),
    (
        "a negative number",
        "defaults: { guards: { per_day: -1 } }\n",
        &[(1, "defaults.guards.per_day", "found the number -1")],
    ),
    (
        "a fraction",
        "defaults: { guards: { per_day: 1.5 } }\n",
        &[(1, "defaults.guards.per_day", "found the number 1.5")],
    ),
    (
        "a huge number",
        "defaults: { guards: { per_day: 5000000000 } }\n",
        &[(1, "defaults.guards.per_day", "found the number 5000000000")],
    ),
    (
        "not a number at all",
        "defaults: { statistics: { alpha: .nan } }\n",
        &[(1, "defaults.statistics.alpha", "expected: a number")],
    ),
    ("nothing where a word belongs", "log:\n  level:\n", &[(2, "log.level", "found nothing")]),
    (
        "an unknown word",
        "log: { level: verbose }\n",
        &[(1, "log.level", "one of: error, warn, info, debug, trace")],
    ),
    (
        "a mistyped word",
        "defaults:\n  autonomy: { level: aproove }\n",
        &[(2, "defaults.autonomy.level", "did you mean `approve`?")],
    ),
    (
        "an unknown severity as a key",
        "defaults: { autonomy: { severity: { P9: auto } } }\n",
        &[(1, "defaults.autonomy.severity.P9", "one of: P0, P1, P2, P3")],
    ),
    ("a version of letters", "version: one\n", &[(1, "version", "a whole number")]),
    (
        "a duration without unit",
        "defaults: { watch: { soak: 5 } }\n",
        &[(1, "defaults.watch.soak", "a duration with a unit")],
    ),
    (
        "a duration with a strange unit",
        "defaults: { watch: { soak: 5 minutes } }\n",
        &[(1, "defaults.watch.soak", "write for example 30s")],
    ),
    (
        "a quantity with a strange unit",
        "defaults: { statistics: { healthy_below: 5 percent } }\n",
        &[(1, "defaults.statistics.healthy_below", "write for example 5%")],
    ),
    ("a bad service name", "services:\n  'a b': {}\n", &[(2, "services.a b", "' ' is not allowed")]),
    (
        "a bad signal name",
        "services: { a: { signals: { -x: { source: m, measure: { gauge: { value: g } } } } } }\n",
        &[(1, "services.a.signals.-x", "must begin with a letter")],
    ),
    // --- addresses, versions, secrets
    ("another version", "version: 2\n", &[(1, "version", "version 2 is not known")]),
    ("no port", "api: { listen: 127.0.0.1 }\n", &[(1, "api.listen", "is not an address and port")]),
    ("a host name", "api: { listen: 'localhost:7440' }\n", &[(1, "api.listen", "127.0.0.1:7440")]),
    ("open to all without token", "api:\n  listen: 0.0.0.0:7440\n", &[(2, "api.listen", "no token is set")]),
    (
        "open to all over IPv6",
        "api:\n  listen: '[::]:7440'\n",
        &[(2, "api.listen", "can be reached from other machines")],
    ),
    ("a relative state directory", "state_dir: state\n", &[(1, "state_dir", "not an absolute path")]),
    (
        "a secret in the open",
        "api: { token: abc }\n",
        &[(1, "api.token", "a secret must not stand in the configuration")],
    ),
    (
        "a secret with two places",
        "api: { token: { env: A, file: /b } }\n",
        &[(1, "api.token", "does not say where the secret is")],
    ),
    (
        "a secret in a relative file",
        "api: { token: { file: b } }\n",
        &[(1, "api.token", "must begin with /")],
    ),
    // --- sources and channels
    (
        "a source without address",
        "signals: { prometheus: { main: { url: localhost } } }\n",
        &[(1, "signals.prometheus.main.url", "")],
    ),
    (
        "a source with two credentials",
        "signals: { prometheus: { main: { url: http://h, bearer: { env: A }, basic: { user: a, password: { env: B } } } } }\n",
        &[(1, "signals.prometheus.main.bearer", "only one")],
    ),
    (
        "a probe without targets",
        "signals: { probe: { p: { targets: [] } } }\n",
        &[(1, "signals.probe.p.targets", "")],
    ),
    (
        "a pushed source beyond its bounds",
        "signals: { pushed: { p: { settle: 2m, credential: { bearer: { file: token } } } } }\n",
        &[
            (1, "signals.pushed.p.settle", "2m is not between 10ms and 1m"),
            (1, "signals.pushed.p.credential.bearer", "the path of a secret must begin with /"),
        ],
    ),
    (
        "a stream of samples that cannot work",
        "signals:\n  pushed:\n    p:\n      kafka:\n        connection: { brokers: [a] }\n        topics: []\n        \
         mapping: [{ name: x, count: body., labels: { a: lower(b) } }, { name: y }]\n      \
         nats: { connection: { servers: ['nats://a'] }, form: otlp, mapping: [{ name: x, value: body }] }\n",
        &[
            (5, "signals.pushed.p.kafka.connection.brokers[0]", "\"a\" is not one"),
            (6, "signals.pushed.p.kafka.topics", "there is none; name at least one"),
            (7, "signals.pushed.p.kafka.mapping.0.count", "\"body.\" is no expression: column"),
            (7, "signals.pushed.p.kafka.mapping.0.labels.a", "column 7: there is no variable `b`"),
            (
                7,
                "signals.pushed.p.kafka.mapping.1",
                "write exactly one of value, count, observation, histogram",
            ),
            (8, "signals.pushed.p.nats.subjects", "there is none"),
            (8, "signals.pushed.p.nats.mapping", "is for `form: json`"),
        ],
    ),
    (
        "a stream of samples whose name cannot be shown",
        "signals: { pushed: { 'a b': { nats: { connection: { servers: ['nats://a'] }, stream: S } } } }\n",
        &[(1, "signals.pushed.a b.nats", "the stream of \"a b\" cannot be shown")],
    ),
    (
        "a probe of nothing",
        "signals:\n  probe:\n    p:\n      targets: ['http://h/']\n      expect_status: []\n",
        &[(5, "signals.probe.p.expect_status", "nothing could ever be up")],
    ),
    (
        "one name for two sources",
        "signals:\n  probe: { a: { targets: ['http://h/'] } }\n  scrape: { a: { targets: ['http://h/'] } }\n",
        &[(2, "signals.probe.a", "there is already a source `a` under signals.scrape")],
    ),
    (
        "an event source without services",
        "events:\n  sources:\n    ci:\n      credential: { bearer: { token: { env: A } } }\n      services: []\n",
        &[(5, "events.sources.ci.services", "`services` is empty")],
    ),
    (
        "an event source with a bad pattern",
        "events: { sources: { ci: { credential: { bearer: { token: { env: A } } }, services: [a, 'shop*'] } } }\n",
        &[(1, "events.sources.ci.services.1", "must have a separator")],
    ),
    (
        "an event source without credential",
        "events: { sources: { ci: { services: [a] } } }\n",
        &[(1, "events.sources.ci", "the key `credential` is missing")],
    ),
    (
        "an unknown credential",
        "events: { sources: { ci: { credential: { baerer: { token: { env: A } } }, services: [a] } } }\n",
        &[(1, "events.sources.ci.credential.baerer", "did you mean `bearer`?")],
    ),
    (
        "a cluster that nothing of is watched",
        "events:\n  kubernetes:\n    main:\n      services: [a]\n      kinds: []\n      service: '{{nmae}}'\n",
        &[
            (5, "events.kubernetes.main.kinds", "`kinds` is empty"),
            (6, "events.kubernetes.main.service", "{{nmae}}"),
        ],
    ),
    (
        "a cluster with the name of another source",
        "events:\n  sources: { a: { credential: { bearer: { token: { env: A } } }, services: [b] } }\n  kubernetes: { a: { services: [b] } }\n",
        &[(3, "events.kubernetes.a", "there is already a source `a` under events.sources")],
    ),
    (
        "a kind that is not watched",
        "events: { kubernetes: { a: { services: [b], kinds: [deployments] } } }\n",
        &[(1, "events.kubernetes.a.kinds.0", "did you mean `deployment`?")],
    ),
    (
        "a hook whose expression does not compile",
        "events:\n  hooks:\n    ci:\n      credential: { nobody: {} }\n      services: [a]\n      mapping:\n      - name: x\n        \
         when: body.a ==\n        deployment: { service: bdy.a, version: body.v }\n",
        &[
            (8, "events.hooks.ci.mapping.0.when", "is no expression: column"),
            (9, "events.hooks.ci.mapping.0.deployment.service", "column 1: there is no variable `bdy`"),
        ],
    ),
    (
        "a hook that believes everybody, and everybody can reach it",
        "api: { listen: '0.0.0.0:7440', token: { env: T } }\nevents:\n  hooks:\n    cd: { preset: argocd, credential: { nobody: {} }, services: [a] }\n",
        &[(4, "events.hooks.cd.credential.nobody", "anybody there would be believed")],
    ),
    (
        "one name for a source and a hook",
        "events:\n  sources: { x: { credential: { bearer: { token: { env: A } } }, services: [a] } }\n  hooks: { x: { preset: github, secret: { env: A }, services: [a] } }\n",
        &[(3, "events.hooks.x", "there is already a source `x`")],
    ),
    (
        "two sources that would divide the messages of one consumer between them",
        "events:\n  nats:\n    a: { connection: { servers: ['nats://a:4222'] }, stream: S, subjects: [s.a], services: [a] }\n    \
         b: { connection: { servers: ['nats://a:4222'] }, stream: S, subjects: [s.b], services: [b] }\n    \
         c: { connection: { servers: ['nats://a:4222'] }, stream: S, consumer: c, services: [c] }\n",
        &[(
            4,
            "events.nats.b.consumer",
            "the consumer turnback of the stream S at nats://a:4222 is read by the source `a`",
        )],
    ),
    (
        "two sources of one group over the same topic",
        "events:\n  kafka:\n    a: { connection: { brokers: ['a:1'] }, topics: [x, y], services: [a] }\n    \
         b: { connection: { brokers: ['a:1'] }, topics: [y, z], services: [b] }\n    \
         c: { connection: { brokers: ['a:1'] }, topics: [z], group: c, services: [c] }\n",
        &[(4, "events.kafka.b.group", "the group turnback of the topic y at a:1 is read by the source `a`")],
    ),
    (
        "a source that proves nothing",
        "events: { sources: { x: { credential: { nobody: {} }, services: [a] } } }\n",
        &[(1, "events.sources.x.credential.nobody", "for hooks only")],
    ),
    (
        "a channel without address",
        "notify: { webhook: { x: {} } }\n",
        &[(1, "notify.webhook.x.url", "is missing")],
    ),
    (
        "a channel with an inline address",
        "notify: { slack: { x: { url: 'https://hooks.example/x' } } }\n",
        &[(1, "notify.slack.x.url", "{env: NAME} or {file: /path}")],
    ),
    // --- matrices and runbooks
    (
        "an empty matrix",
        "matrices: { mine: { rows: [] } }\n",
        &[(1, "matrices.mine.rows", "never decides anything")],
    ),
    (
        "a row twice",
        "matrices:\n  mine:\n    rows:\n    - { name: a, when: { reported: x }, severity: P1, verdict: rollback, act_within: 1h }\n    - { name: a, when: { reported: y }, severity: P1, verdict: rollback, act_within: 1h }\n",
        &[(5, "matrices.mine.rows.1.name", "used twice")],
    ),
    (
        "a row with an unknown verdict",
        "matrices: { mine: { rows: [{ name: a, when: { reported: x }, severity: P1, verdict: never, act_within: 1h }] } }\n",
        &[(1, "matrices.mine.rows.0.verdict", "one of: rollback, maybe, no")],
    ),
    (
        "a condition of two",
        "matrices: { mine: { rows: [{ name: a, when: { reported: x, any: [] }, severity: P1, verdict: no, act_within: 1h }] } }\n",
        &[(1, "matrices.mine.rows.0.when", "a map with exactly one of the keys all, any, signal, reported")],
    ),
    (
        "a matrix with a shipped name",
        "matrices: { standard: { rows: [{ name: a, when: { reported: x }, severity: P1, verdict: no, act_within: 1h }] } }\n",
        &[(1, "matrices.standard", "a matrix that ships")],
    ),
    (
        "an unknown default matrix",
        "defaults: { matrix: standrad }\n",
        &[(1, "defaults.matrix", "did you mean `standard`?")],
    ),
    (
        "a matrix file that is not there",
        "matrix_files: { mine: nowhere.yaml }\n",
        &[(0, "", "there is no such file")],
    ),
    (
        "a runbook without steps",
        "runbooks: { back: { steps: [] } }\n",
        &[(1, "runbooks.back.steps", "add a step")],
    ),
    (
        "a program without path",
        "runbooks:\n  back:\n    steps:\n    - name: a\n      class: one_shot\n      action:\n        command:\n          argv: [kubectl]\n",
        &[(8, "runbooks.back.steps.0.action.command.argv", "must be an absolute path")],
    ),
    (
        "a lookup without inspect",
        "runbooks:\n  back:\n    steps:\n    - { name: a, class: one_shot, action: { command: { argv: [/bin/a] } } }\n    - { name: b, class: lookup, action: { command: { argv: [/bin/a] } } }\n",
        &[(5, "runbooks.back.steps.1.class", "add `inspect`")],
    ),
    (
        "a step without class",
        "runbooks:\n  back:\n    steps:\n    - { name: a, action: { command: { argv: [/bin/a] } } }\n",
        &[(4, "runbooks.back.steps.0", "the key `class` is missing")],
    ),
    (
        "an unknown placeholder",
        "runbooks: { back: { steps: [{ name: a, class: one_shot, action: { command: { argv: [/bin/a, '{{versoin}}'] } } }] } }\n",
        &[(1, "runbooks.back.steps.0.action.command.argv", "{{versoin}} is no placeholder")],
    ),
    (
        "an unknown preset",
        "runbooks:\n  back:\n    steps:\n    - name: a\n      preset:\n        name: vercel-rolback\n",
        &[(
            6,
            "runbooks.back.steps.0.preset",
            "there is no preset `vercel-rolback`; did you mean `vercel-rollback`?",
        )],
    ),
    (
        "inputs of a preset that are missing, unknown and wrong",
        "runbooks:\n  back:\n    steps:\n    - name: a\n      preset: { name: helm-rollback, with: { release: a, revision: one, revison_now: 2 } }\n",
        &[(
            5,
            "runbooks.back.steps.0.preset",
            "the preset helm-rollback cannot be used: input `revison_now`: is not known; there are",
        )],
    ),
    (
        "an input of a preset of the wrong type",
        "runbooks:\n  back:\n    steps:\n    - name: a\n      preset: { name: helm-rollback, with: { release: a, revision: one, revision_now: 2 } }\n",
        &[(5, "runbooks.back.steps.0.preset", "input `revision`: found \"one\"; expected a whole number")],
    ),
    (
        "a preset whose danger is taken lightly",
        "runbooks:\n  back:\n    steps:\n    - name: a\n      preset: { name: dbmate-rollback }\n      reversibility: reversible\n",
        &[(4, "runbooks.back.steps.0", "a step can only be stricter")],
    ),
    (
        "an action and a preset",
        "runbooks:\n  back:\n    steps:\n    - name: a\n      class: one_shot\n      action: { command: { argv: [/bin/a] } }\n      preset: { name: dbmate-rollback }\n",
        &[(4, "runbooks.back.steps.0", "keep one of them")],
    ),
    // --- settings that contradict each other
    (
        "an alpha that is too large",
        "defaults: { statistics: { alpha: 0.5 } }\n",
        &[(1, "defaults.statistics.alpha", "expected more than 0")],
    ),
    (
        "a watch shorter than its soak",
        "defaults:\n  watch:\n    watch_for: 1m\n    soak: 5m\n",
        &[(3, "defaults.watch.watch_for", "expected at least 5m")],
    ),
    (
        "a service's watch shorter than the default soak",
        "defaults: { watch: { soak: 20m } }\nservices: { a: { watch: { watch_for: 15m } } }\n",
        &[(2, "services.a.watch.watch_for", "expected at least 20m")],
    ),
    (
        "patience for nothing",
        "defaults: { patience: { quick-fux: 1m } }\n",
        &[(1, "defaults.patience.quick-fux", "did you mean `quick-fix`?")],
    ),
    (
        "a freeze that ends before it begins",
        "freezes:\n- from: 2026-01-02T00:00:00Z\n  until: 2026-01-01T00:00:00Z\n  reason: x\n",
        &[(3, "freezes.0.until", "before it begins")],
    ),
    (
        "a freeze without offset",
        "freezes: [{ from: 2026-01-02T00:00:00, until: 2026-01-01T00:00:00Z, reason: x }]\n",
        &[(1, "freezes.0.from", "")],
    ),
    (
        "a freeze of an unknown service",
        "services: { checkout: {} }\nfreezes:\n- { from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z, reason: x, service: chekout }\n",
        &[(3, "freezes.0.service", "did you mean `checkout`?")],
    ),
];
