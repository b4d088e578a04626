//! Calls Kubernetes' Container Runtime Interface: `cri-client SOCKET METHOD [JSON]` prints the response as
//! JSON, `cri-client stream JSON` talks over a URL that `Exec` or `Attach` gave.

mod grpc;
mod messages;
mod stream;

use messages as m;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// A stuck engine must not hold the suite; stopping with a grace period takes the longest.
const LIMIT: Duration = Duration::from_secs(100);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["stream", script] => serde_json::from_str(script)
            .map_err(Into::into)
            .and_then(|script| stream::play(&script))
            .map(|value| value.to_string()),
        [socket, method] => dispatch(Path::new(socket), method, "{}"),
        [socket, method, request] => dispatch(Path::new(socket), method, request),
        _ => Err("usage: cri-client SOCKET METHOD [JSON] | cri-client stream JSON".into()),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The method's messages by its name.
fn dispatch(socket: &Path, method: &str, json: &str) -> Result<String, Box<dyn Error>> {
    let call = match method {
        "Version" => exchange::<m::Empty, m::VersionResponse>,
        "Status" => exchange::<m::Verbosely, m::StatusResponse>,
        "RunPodSandbox" => exchange::<m::RunPodSandboxRequest, m::PodSandboxId>,
        "StopPodSandbox" | "RemovePodSandbox" => exchange::<m::PodSandboxId, m::Empty>,
        "PodSandboxStatus" => exchange::<m::PodSandboxId, m::PodSandboxStatusResponse>,
        "ListPodSandbox" => exchange::<m::Empty, m::ListPodSandboxResponse>,
        "CreateContainer" => exchange::<m::CreateContainerRequest, m::ContainerId>,
        "StartContainer" | "RemoveContainer" | "ReopenContainerLog" => exchange::<m::ContainerId, m::Empty>,
        "StopContainer" => exchange::<m::StopContainerRequest, m::Empty>,
        "ListContainers" => exchange::<m::Empty, m::ListContainersResponse>,
        "ContainerStatus" => exchange::<m::ContainerStatusRequest, m::ContainerStatusResponse>,
        "UpdateContainerResources" => exchange::<m::UpdateContainerResourcesRequest, m::Empty>,
        "ExecSync" => exchange::<m::ExecSyncRequest, m::ExecSyncResponse>,
        "Exec" => exchange::<m::ExecRequest, m::StreamUrl>,
        "Attach" => exchange::<m::AttachRequest, m::StreamUrl>,
        "ContainerStats" => exchange::<m::ContainerId, m::ContainerStatsResponse>,
        _ => return Err(format!("the client does not know the method {method}").into()),
    };
    call(socket, method, json)
}

fn exchange<I, O>(socket: &Path, method: &str, json: &str) -> Result<String, Box<dyn Error>>
where
    I: Message + DeserializeOwned,
    O: Message + Default + Serialize,
{
    let request: I = serde_json::from_str(json).map_err(|error| format!("{method}: {error}: {json}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let path = format!("RuntimeService/{method}");
        tokio::time::timeout(LIMIT, grpc::call(socket, &path, &request.encode_to_vec())).await
    });
    let answer = answer.map_err(|_| format!("{method}: no answer within {LIMIT:?}"))??;
    Ok(serde_json::to_string(&O::decode(answer)?)?)
}
