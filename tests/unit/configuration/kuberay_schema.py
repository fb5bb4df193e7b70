"""What KubeRay's custom resources may hold, as far as ours use it: every key that is not here is a mistake."""

from typing import Any

Schema = dict[str, Any]


def closed(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object that has no other keys than these."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def several(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
YES_OR_NO: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}  # Ray's start parameters have to be text
QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(m|Mi|Gi|Ti)?$"}
QUANTITIES: Schema = {"type": "object", "additionalProperties": QUANTITY}

POD = closed(
    ("containers",),
    terminationGracePeriodSeconds=WHOLE,
    securityContext=closed(runAsNonRoot=YES_OR_NO, runAsUser=WHOLE, fsGroup=WHOLE),
    containers=several(
        closed(
            ("name", "image", "resources"),
            name=TEXT,
            image=TEXT,
            securityContext=closed(
                allowPrivilegeEscalation=YES_OR_NO, capabilities=closed(drop=several({"enum": ["ALL"]}))
            ),
            env=several(closed(("name", "value"), name=TEXT, value=TEXT)),
            envFrom=several(closed(secretRef=closed(("name",), name=TEXT))),
            ports=several(closed(("containerPort",), name={"type": "string", "maxLength": 15}, containerPort=WHOLE)),
            resources=closed(("requests", "limits"), requests=QUANTITIES, limits=QUANTITIES),
            volumeMounts=several(closed(("name", "mountPath"), name=TEXT, mountPath={"pattern": "^/"})),
        )
    ),
    volumes=several(
        closed(
            ("name",),
            name=TEXT,
            persistentVolumeClaim=closed(("claimName",), claimName=TEXT),
            emptyDir=closed(medium={"enum": ["Memory"]}, sizeLimit=QUANTITY),
            configMap=closed(("name",), name=TEXT),
        )
    ),
    tolerations=several(closed(key=TEXT, operator={"enum": ["Exists"]}, effect={"enum": ["NoSchedule"]})),
)
TEMPLATE = closed(("spec",), spec=POD)

RAY_CLUSTER_SPEC = closed(
    ("headGroupSpec", "rayVersion", "authOptions"),
    rayVersion=TEXT,
    authOptions=closed(("mode",), mode={"enum": ["token"]}),
    enableInTreeAutoscaling=YES_OR_NO,
    autoscalerOptions=closed(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=WHOLE),
    headGroupSpec=closed(("rayStartParams", "template"), rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=several(
        closed(
            ("groupName", "rayStartParams", "template"),
            groupName=TEXT,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            rayStartParams=TEXTS,
            template=TEMPLATE,
        )
    ),
)
RAY_JOB_SPEC = closed(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=TEXT,
    backoffLimit=WHOLE,
    shutdownAfterJobFinishes=YES_OR_NO,
    ttlSecondsAfterFinished=WHOLE,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
    rayClusterSpec=RAY_CLUSTER_SPEC,
)


def resource(kind: str, spec: Schema) -> Schema:
    """A whole manifest."""
    return closed(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=closed(("name",), name=TEXT),
        spec=spec,
    )
