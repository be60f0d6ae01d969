//! Gets certificates, keeps them in the store, gives them to the proxy, and renews them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use loadx_certs::{Acme, AcmeSettings, Answers, Bundle, CertsError, LocalAuthority, Store};
use loadx_core::config::Config;
use loadx_proxy::{Challenges, Elsewhere, Identity, Keyring};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_local;

use super::schedule::{PAUSE_MAX, pause};
use super::wanted::Wanted;

/// The longest time between two looks at what is due.
const LOOK: Duration = Duration::from_secs(5);

/// The most certificates that LoadX gets at the same time, and the most questions to an authority.
const ORDERS_MAX: usize = 8;

/// How long LoadX waits for another LoadX that gets the same certificate.
const OTHERS: Duration = Duration::from_secs(5);

/// How often LoadX asks an authority when to renew a certificate.
const SUGGESTIONS: Duration = Duration::from_secs(6 * 3_600);

/// Gets and renews certificates. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper(Arc<Shared>);

struct Shared {
    keyring: Arc<Keyring>,
    state: Mutex<State>,
    /// Told when there may be more to do.
    changed: Notify,
    /// The account at the authority, with the settings it was opened for. One task at a time opens an account.
    account: tokio::sync::Mutex<Option<(AcmeSettings, Arc<Acme>)>>,
    /// The questions at the same time when to renew a certificate.
    questions: Semaphore,
}

#[derive(Default)]
struct State {
    wanted: Option<Wanted>,
    /// By name.
    kept: BTreeMap<String, Kept>,
    http: HashMap<String, String>,
    tls: HashMap<String, Arc<Identity>>,
    /// The certificates that are being got.
    orders: usize,
}

/// What is known of one name.
#[derive(Default)]
struct Kept {
    bundle: Option<Bundle>,
    identity: Option<Arc<Identity>>,
    /// When to get another certificate.
    renew_at: Option<SystemTime>,
    failures: u32,
    problem: Option<String>,
    next_try: Option<Instant>,
    suggestion_at: Option<Instant>,
    /// When the file of the certificate in the store was written.
    written_at: Option<SystemTime>,
    /// Whether an operator asked for another certificate.
    is_asked_for: bool,
    is_busy: bool,
}

impl Kept {
    /// A name without a certificate, with what a former process noted of its failures.
    fn remembered(store: &Store, kind: &str, name: &str) -> Self {
        let Some((failures, next)) = store.failures(kind, name) else { return Kept::default() };
        let wait = next.duration_since(SystemTime::now()).unwrap_or_default().min(PAUSE_MAX);
        Kept { failures, next_try: Some(Instant::now() + wait), ..Kept::default() }
    }

    /// Forgets what went wrong before.
    fn has_succeeded(&mut self) {
        (self.failures, self.problem, self.next_try, self.is_asked_for) = (0, None, None, false);
    }
}

impl Keeper {
    pub(crate) fn new() -> Self {
        Keeper(Arc::new(Shared {
            keyring: Arc::default(),
            state: Mutex::default(),
            changed: Notify::new(),
            account: tokio::sync::Mutex::default(),
            questions: Semaphore::new(ORDERS_MAX),
        }))
    }

    /// The certificates, for the proxy.
    pub(crate) fn keyring(&self) -> &Arc<Keyring> {
        &self.0.keyring
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the certificates of local names that a config wants, and takes the others of the store: a listener that starts
    /// should not have to refuse its clients. The certificates of former configs stay.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(crate) fn prepare(&self, config: &Config) -> Result<(), CertsError> {
        let Some(wanted) = Wanted::of(config) else { return Ok(()) };
        let store = Store::open(&wanted.folder)?;
        let mut found = Vec::new();
        if !wanted.local.is_empty() {
            let authority = LocalAuthority::open(&store)?;
            for name in &wanted.local {
                found.push((name.clone(), authority.certificate_for(&store, name)?));
            }
        }
        let kind = Acme::kind(&wanted.acme);
        for name in &wanted.public {
            match store.load(&kind, name) {
                Ok(bundle) => found.extend(bundle.map(|bundle| (name.clone(), bundle))),
                // LoadX gets another one.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        for (name, bundle) in found {
            self.keep(&name, bundle)?;
        }
        self.publish();
        Ok(())
    }

    /// Gets and renews the certificates of this config from now on.
    pub(crate) fn adopt(&self, config: &Config) {
        let wanted = Wanted::of(config);
        let mut state = self.state();
        let is_wanted = |name: &str| {
            wanted.as_ref().is_some_and(|wanted| wanted.local.contains(name) || wanted.public.contains(name))
        };
        state.kept.retain(|name, kept| is_wanted(name) || kept.is_busy);
        state.wanted = wanted;
        drop(state);
        self.publish();
        self.0.changed.notify_one();
    }

    /// Starts the thread that gets certificates.
    ///
    /// # Errors
    /// When the system has no thread.
    pub(crate) fn start(&self) -> std::io::Result<()> {
        self.0.keyring.look_elsewhere(Arc::new(self.clone()));
        let keeper = self.clone();
        let run = move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime.block_on(keeper.run()),
            Err(error) => tracing::error!("no certificates are got or renewed: {error}"),
        };
        std::thread::Builder::new().name("loadx-certs".to_owned()).spawn(run)?;
        Ok(())
    }

    async fn run(self) {
        loop {
            self.look_at_store();
            let next = self.look();
            let _ = tokio::time::timeout(next, self.0.changed.notified()).await;
        }
    }

    /// Takes certificates over that another LoadX or `loadx certs` has put into the store, and renewals that an operator asked
    /// for.
    fn look_at_store(&self) {
        let Some(wanted) = self.state().wanted.clone() else { return };
        let Ok(store) = Store::open(&wanted.folder) else { return };
        let kind = Acme::kind(&wanted.acme);
        let mut has_news = false;
        for name in &wanted.public {
            let written_at = store.replaced_at(&kind, name);
            let (is_busy, former) = {
                let mut state = self.state();
                let kept = state.kept.entry(name.clone()).or_insert_with(|| Kept::remembered(&store, &kind, name));
                (kept.is_busy, std::mem::replace(&mut kept.written_at, written_at))
            };
            if !is_busy && written_at.is_some() && written_at != former {
                has_news |= self.take_over(&store, &kind, name);
            }
        }
        if store.has_renewals() {
            for name in wanted.local.iter().chain(&wanted.public).filter(|name| store.take_renewal(name)) {
                tracing::info!("an operator asked for another certificate for {name}");
                let mut state = self.state();
                let kept = state.kept.entry(name.clone()).or_insert_with(|| Kept::remembered(&store, &kind, name));
                (kept.is_asked_for, kept.next_try) = (true, None);
            }
        }
        if has_news {
            self.publish();
        }
    }

    /// Takes the certificate of the store, if LoadX has another one. Returns whether there is a new one.
    fn take_over(&self, store: &Store, kind: &str, name: &str) -> bool {
        let bundle = match store.load(kind, name) {
            Ok(Some(bundle)) => bundle,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!("{error}");
                return false;
            }
        };
        if self.state().kept.get(name).is_some_and(|kept| kept.bundle.as_ref() == Some(&bundle)) {
            return false;
        }
        match self.keep(name, bundle) {
            Ok(identity) => {
                tracing::info!("a certificate of the store is in use: {}", identity.summary());
                if let Some(kept) = self.state().kept.get_mut(name) {
                    kept.has_succeeded();
                }
                true
            }
            Err(error) => {
                tracing::warn!("{error}");
                false
            }
        }
    }

    /// Begins what is due. Returns the time until the next look.
    fn look(&self) -> Duration {
        let (now, today) = (Instant::now(), SystemTime::now());
        let mut state = self.state();
        let Some(wanted) = state.wanted.clone() else { return LOOK };
        let (store, kind) = (Store::open(&wanted.folder), Acme::kind(&wanted.acme));
        let mut next = LOOK;
        for name in wanted.local.iter().chain(&wanted.public) {
            let orders = state.orders;
            let kept = state.kept.entry(name.clone()).or_insert_with(|| match &store {
                Ok(store) => Kept::remembered(store, &kind, name),
                // The order tells of the error.
                Err(_) => Kept::default(),
            });
            let is_due = kept.bundle.is_none() || kept.is_asked_for || kept.renew_at.is_some_and(|at| at <= today);
            let wait = kept.next_try.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
            if kept.is_busy || orders >= ORDERS_MAX {
                continue;
            }
            if is_due && !wait.is_zero() {
                next = next.min(wait);
            } else if is_due {
                kept.is_busy = true;
                state.orders += 1;
                spawn_local(self.clone().renew(wanted.clone(), name.clone()));
            } else if wanted.public.contains(name) && kept.suggestion_at.is_none_or(|at| at <= now) {
                kept.suggestion_at = Some(now + SUGGESTIONS);
                spawn_local(self.clone().ask_when(wanted.clone(), name.clone()));
            }
        }
        next
    }

    /// Gets a certificate.
    async fn renew(self, wanted: Wanted, name: String) {
        let outcome = match wanted.local.contains(&name) {
            true => {
                let is_asked_for = self.state().kept.get(&name).is_some_and(|kept| kept.is_asked_for);
                sign(&wanted, &name, is_asked_for).map(Some)
            }
            false => self.order(&wanted, &name).await,
        };
        let kept = match outcome {
            Ok(Some(bundle)) => self.keep(&name, bundle).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let mut state = self.state();
        state.orders -= 1;
        let entry = state.kept.entry(name.clone()).or_default();
        entry.is_busy = false;
        let mut note = None;
        match kept {
            Ok(Some(identity)) => {
                entry.has_succeeded();
                tracing::info!("a new certificate is in use: {}", identity.summary());
            }
            // Another LoadX is about to get the certificate.
            Ok(None) => entry.next_try = Some(Instant::now() + OTHERS),
            Err(error) => {
                let text = error.to_string();
                entry.failures += 1;
                let pause = pause(entry.failures, &text);
                entry.next_try = Some(Instant::now() + pause);
                note = Some((entry.failures, SystemTime::now() + pause));
                tracing::error!("no certificate for {name}: {text}; LoadX tries again in {} s", pause.as_secs());
                entry.problem = Some(text);
            }
        }
        drop(state);
        if let (Some(note), false, Some(store)) = (note, wanted.local.contains(&name), self.store())
            && let Err(error) = store.note_failures(&Acme::kind(&wanted.acme), &name, Some(note))
        {
            tracing::warn!("a restart will try {name} again at once: {error}");
        }
        self.publish();
        self.0.changed.notify_one();
    }

    /// Gets a certificate of a public authority. None while another LoadX does that.
    async fn order(&self, wanted: &Wanted, name: &str) -> Result<Option<Bundle>, CertsError> {
        let store = Store::open(&wanted.folder)?;
        let kind = Acme::kind(&wanted.acme);
        let Some(_lock) = store.try_lock(&format!("{kind}-{name}"))? else { return Ok(None) };
        let former = store.load(&kind, name).unwrap_or_default();
        if let Some(bundle) = former.clone().filter(|bundle| bundle.renew_at() > SystemTime::now()) {
            // Another LoadX got the certificate.
            let is_known = self.state().kept.get(name).is_some_and(|kept| kept.bundle.as_ref() == Some(&bundle));
            if !is_known {
                return Ok(Some(bundle));
            }
        }
        let failures = self.state().kept.get(name).map_or(0, |kept| kept.failures);
        let proof = wanted.proof(name, failures);
        // Before the order: a LoadX that is killed and started again and again must not ask again and again.
        store.note_failures(&kind, name, Some((failures + 1, SystemTime::now() + pause(failures + 1, ""))))?;
        tracing::info!("getting a certificate for {name}, with a proof by {}", proof.as_str());
        let acme = self.account(wanted, &store).await?;
        let answers: Arc<dyn Answers> = Arc::new(self.clone());
        let bundle = acme.obtain(name, proof, former.as_ref(), &answers).await?;
        store.save(&kind, name, &bundle)?;
        store.note_failures(&kind, name, None)?;
        Ok(Some(bundle))
    }

    /// The account at the authority.
    async fn account(&self, wanted: &Wanted, store: &Store) -> Result<Arc<Acme>, CertsError> {
        let mut account = self.0.account.lock().await;
        match &*account {
            Some((settings, open)) if *settings == wanted.acme => Ok(Arc::clone(open)),
            _ => {
                let open = Arc::new(Acme::open(&wanted.acme, store).await?);
                *account = Some((wanted.acme.clone(), Arc::clone(&open)));
                Ok(open)
            }
        }
    }

    /// Asks the authority when to renew a certificate.
    async fn ask_when(self, wanted: Wanted, name: String) {
        // Nobody closes the semaphore.
        let _question = self.0.questions.acquire().await;
        let Some(bundle) = self.state().kept.get(&name).and_then(|kept| kept.bundle.clone()) else { return };
        let at = match Store::open(&wanted.folder) {
            Ok(store) => match self.account(&wanted, &store).await {
                Ok(acme) => acme.renew_at(&bundle).await,
                Err(_) => None,
            },
            Err(_) => None,
        };
        // Without an answer, two thirds of the time stay.
        let mut state = self.state();
        if let (Some(at), Some(kept)) = (at, state.kept.get_mut(&name))
            && kept.bundle.as_ref() == Some(&bundle)
        {
            kept.renew_at = Some(at);
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// Remembers a certificate.
    fn keep(&self, name: &str, bundle: Bundle) -> Result<Arc<Identity>, CertsError> {
        let identity = Identity::from_pem(bundle.text().as_bytes(), bundle.text().as_bytes())
            .map_err(|error| CertsError::Making(format!("{name}: {error}")))?;
        let identity = Arc::new(identity);
        let mut state = self.state();
        let kept = state.kept.entry(name.to_owned()).or_default();
        kept.renew_at = Some(bundle.renew_at());
        kept.suggestion_at = None;
        kept.bundle = Some(bundle);
        kept.identity = Some(Arc::clone(&identity));
        Ok(identity)
    }

    /// Gives the proxy what it needs.
    fn publish(&self) {
        let state = self.state();
        let identities = state.kept.values().filter_map(|kept| kept.identity.clone()).collect();
        let problems = state.kept.iter().filter_map(|(name, kept)| Some((name.clone(), kept.problem.clone()?)));
        self.0.keyring.set_problems(problems.collect());
        self.0.keyring.replace(identities);
    }

    fn publish_challenges(&self, state: &State) {
        self.0.keyring.set_challenges(Challenges { http: state.http.clone(), tls: state.tls.clone() });
    }
}

/// Signs a certificate, or takes that of the store, if another LoadX has just signed one.
fn sign(wanted: &Wanted, name: &str, is_asked_for: bool) -> Result<Bundle, CertsError> {
    let store = Store::open(&wanted.folder)?;
    let authority = LocalAuthority::open(&store)?;
    if is_asked_for { authority.renew(&store, name) } else { authority.certificate_for(&store, name) }
}

/// Answers that another LoadX put into the store.
impl Elsewhere for Keeper {
    fn http(&self, token: &str) -> Option<String> {
        self.store()?.answer(token)
    }

    fn tls(&self, name: &str) -> Option<Arc<Identity>> {
        let text = self.store()?.answer(name)?;
        Identity::from_pem(text.as_bytes(), text.as_bytes()).ok().map(Arc::new)
    }
}

impl Keeper {
    fn store(&self) -> Option<Store> {
        let folder = self.state().wanted.as_ref()?.folder.clone();
        Store::open(&folder).ok()
    }

    /// Lets the other LoadX of the store give an answer, too; without `text`, no more.
    fn share(&self, key: &str, text: Option<&str>) {
        let Some(store) = self.store() else { return };
        match text {
            Some(text) => {
                if let Err(error) = store.give_answer(key, text) {
                    tracing::warn!("other LoadX cannot answer the authority: {error}");
                }
            }
            None => store.withdraw_answer(key),
        }
    }
}

impl Answers for Keeper {
    fn http(&self, token: &str, answer: Option<&str>) {
        self.share(token, answer);
        let mut state = self.state();
        match answer {
            Some(answer) => drop(state.http.insert(token.to_owned(), answer.to_owned())),
            None => drop(state.http.remove(token)),
        }
        self.publish_challenges(&state);
    }

    fn tls(&self, name: &str, certificate: Option<&Bundle>) {
        self.share(name, certificate.map(Bundle::text));
        let identity = certificate.map(|bundle| Identity::from_pem(bundle.text().as_bytes(), bundle.text().as_bytes()));
        let mut state = self.state();
        match identity {
            Some(Ok(identity)) => drop(state.tls.insert(name.to_owned(), Arc::new(identity))),
            Some(Err(error)) => tracing::error!("the proof for {name} cannot be shown: {error}"),
            None => drop(state.tls.remove(name)),
        }
        self.publish_challenges(&state);
    }
}
