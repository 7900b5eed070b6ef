//! The root supervisor of a node's actors. When the actor that runs a noun's entities of
//! one shard fails, the supervisor asks the noun's host to restart it.

use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::hosts::Hosts;

/// Supervises the shard actors of all nouns.
pub struct Supervisor;

impl Supervisor {
    /// Starts a supervisor. The hosts are created afterwards, and sent to it as its only message.
    ///
    /// # Errors
    /// [`SpawnErr`] when it cannot be started.
    pub async fn start() -> Result<ActorRef<Hosts>, SpawnErr> {
        let (supervisor, _) = Actor::spawn(None, Self, ()).await?;
        Ok(supervisor)
    }
}

impl Actor for Supervisor {
    type Msg = Hosts;
    type State = Option<Hosts>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Hosts>,
        (): (),
    ) -> Result<Option<Hosts>, ActorProcessingErr> {
        Ok(None)
    }

    async fn handle(
        &self,
        _: ActorRef<Hosts>,
        hosts: Hosts,
        state: &mut Option<Hosts>,
    ) -> Result<(), ActorProcessingErr> {
        *state = Some(hosts);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Hosts>,
        event: SupervisionEvent,
        state: &mut Option<Hosts>,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisionEvent::ActorFailed(shard, why) = event else {
            return Ok(());
        };
        tracing::error!(%why, "the actor of a shard failed and is restarted");
        for host in state.iter().flat_map(Hosts::iter) {
            if host.restart(&shard).await {
                break;
            }
        }
        Ok(())
    }
}
