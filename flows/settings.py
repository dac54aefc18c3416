"""Every setting, once.

Environment variables `QUAKESLIDE_<GROUP>__<FIELD>` override `quakeslide.toml`, which overrides these defaults.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from flows.errors import FlowError
from flows.settings_variables import Variables

_PREFIX, _DELIMITER = "QUAKESLIDE_", "__"


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EarthEngineSettings(_Group):
    """Where Earth Engine is and how much of it may be used."""

    url: str = Field(
        "https://earthengine-highvolume.googleapis.com",
        description="Earth Engine endpoint. A loopback address means a local stand-in and needs no credentials.",
    )
    project: str = Field("", description="Google Cloud project that is billed for Earth Engine.")
    asset_root: str = Field("quakeslide", description="Folder below projects/PROJECT/assets that receives the results.")
    image_assets: Literal["cog", "ingested"] = Field(
        "cog",
        description="`cog`: images stay in the bucket, whose readers they need; `ingested`: copied into Earth Engine.",
    )
    readers: tuple[str, ...] = Field(
        (), description="Who else may read published assets: allUsers, user:…, group:…, serviceAccount:…, domain:…."
    )
    asset_deadline_s: float = Field(
        1800.0, gt=0, description="How long a run waits for ingestions, in seconds; a later run goes on waiting."
    )
    orphan_hours: float = Field(
        24.0, gt=0, description="Assets of a run that was never published are removed after so many hours."
    )
    max_concurrent_requests: int = Field(
        40, ge=1, description="Requests in flight of the whole project, shared by all its runs (default quota: 40)."
    )
    max_requests_per_s: float = Field(
        100.0, gt=0, description="Requests a second of the whole project, likewise (default quota: 100)."
    )
    eecu_hours_per_event: float = Field(
        25.0, ge=0, description="Compute that the cube of one event may cost before it stops and asks; 0 for no limit."
    )
    request_timeout_s: float = Field(300.0, gt=0, description="Deadline of one request, in seconds.")
    max_attempts: int = Field(6, ge=1, description="Attempts at a request that fails in a way that may pass.")


class StorageSettings(_Group):
    """Where cubes and products are kept."""

    bucket: str = Field("quakeslide", description="Cloud Storage bucket.")
    endpoint: str = Field("", description="Address of a local stand-in; empty for the real Cloud Storage.")


class UsgsSettings(_Group):
    """Where the earthquake feeds are."""

    url: str = Field("https://earthquake.usgs.gov", description="Base address of the USGS feeds and FDSN service.")
    timeout_s: float = Field(30.0, gt=0, description="Deadline of one request, in seconds.")


class AreaSettings(_Group):
    """Which events are mapped and where."""

    minimum_magnitude: float = Field(5.5, description="Events below this magnitude are not mapped.")
    minimum_mmi: float = Field(
        6.0, description="Shaking intensity (MMI) that bounds the area; Keefer (1984) finds few landslides below VI."
    )
    minimum_slope_deg: float = Field(5.0, description="Ground flatter than this within `slope_reach_m` cannot fail.")
    slope_reach_m: float = Field(300.0, description="How far from steep ground a landslide may run out, in metres.")
    maximum_area_km2: float = Field(40_000.0, description="Refuse larger areas unless one is given by hand.")


class ImagerySettings(_Group):
    """Which scenes make the cube."""

    collections: tuple[str, ...] = Field(
        ("COPERNICUS/S2_HARMONIZED",),
        description="Sentinel-2 collections, the first with scenes in both windows is used. The shipped networks know "
        "S2_HARMONIZED (top of atmosphere); COPERNICUS/S2_SR_HARMONIZED is the surface reflectance.",
    )
    cloud_masks: tuple[Literal["cloud-score-plus", "s2cloudless", "scl", "qa60"], ...] = Field(
        ("cloud-score-plus", "s2cloudless", "scl", "qa60"),
        description="Cloud masks in order of preference: the first that the scenes have is used and recorded; [] for none.",
    )
    cloud_score_band: Literal["cs", "cs_cdf"] = Field("cs", description="Band of Cloud Score+.")
    cloud_score_threshold: float = Field(0.60, ge=0, le=1, description="Pixels below this Cloud Score+ are masked.")
    cloud_probability_percent: float = Field(
        50.0, ge=0, le=100, description="Pixels above this probability of s2cloudless are masked, and their shadows."
    )
    reasons: tuple[Literal["snow", "water", "terrain_shadow"], ...] = Field(
        ("snow", "water", "terrain_shadow"),
        description="What is told apart from cloud and counts as not observed, where the scenes allow to tell.",
    )
    composite_before: Literal["median", "medoid", "least_cloudy", "earliest_clear"] = Field(
        "median", description="How the scenes before the event become one image."
    )
    composite_after: Literal["earliest_clear", "least_cloudy", "median", "medoid"] = Field(
        "earliest_clear", description="How the scenes after the event become one image."
    )
    days_before: int = Field(90, ge=1, description="Length of the window before the event, in days.")
    days_after: int = Field(60, ge=1, le=365, description="Length of the window after the event, in days.")
    minimum_clear_before: float = Field(
        0.7, ge=0, le=1, description="With less of the area clear before the event, other windows are looked at."
    )
    same_season_years: int = Field(
        3, ge=0, le=10, description="How many earlier years may serve when the months before are cloudy or leafless."
    )
    leafless_ndvi_drop: float = Field(
        0.15, gt=0, description="The months before are leafless when NDVI is so much below that season a year earlier."
    )
    maximum_scene_cloud_percent: float = Field(90.0, description="Scenes cloudier than this are not used.")
    dems: tuple[str, ...] = Field(
        ("srtm", "glo30", "aw3d30", "JAXA/ALOS/AW3D30/V3_2"),
        description="Elevation models in order of preference: srtm, glo30, nasadem, aw3d30 or asset ids; the first that "
        "covers the area is used, and it is said why (SRTM ends at 60 degrees north and 56 south).",
    )
    terrain: tuple[
        Literal["elevation", "slope", "hillshade", "aspect", "plan_curvature", "profile_curvature", "relief", "twi"],
        ...,
    ] = Field(
        ("elevation", "slope", "hillshade"),
        description="Terrain layers of the cube; elevation and slope are needed for the inventory.",
    )
    radar: bool = Field(
        False, description="Add the change of Sentinel-1 backscatter (VV, VH), which is seen through cloud."
    )

    @model_validator(mode="after")
    def _has_what_maps_need(self) -> ImagerySettings:
        if lacking := {"elevation", "slope"} - set(self.terrain):
            raise ValueError(f"terrain needs {' and '.join(sorted(lacking))} as well: the inventory is made with it")
        return self


class CubeSettings(_Group):
    """How the cube is cut."""

    pixel_m: float = Field(10.0, gt=0, description="Pixel size in metres.")
    tile_px: int = Field(512, ge=64, le=2048, description="Side of a tile and of a Zarr chunk, in pixels.")
    lattice: bool = Field(
        True,
        description="Cut along tiles of one lattice for each UTM zone, and take over those that an earlier cube of the "
        "event holds, so that a larger area or a new scene pulls only what is new; false: as tight a grid as can be.",
    )


class AlignmentSettings(_Group):
    """How the image before the event is brought onto the one after. What was measured is always recorded."""

    maximum_shift_px: float = Field(
        3.0, gt=0, le=16, description="A measured shift longer than this, in pixels, is not believed and not corrected."
    )
    correct_above_px: float = Field(
        0.5, ge=0, description="The image before is moved when the measured shift is longer than this, in pixels."
    )
    radiometry: Literal["none", "histogram", "invariant"] = Field(
        "none", description="Match the reflectance before to that after: by quantiles, or by pseudo-invariant pixels."
    )


class ModelSettings(_Group):
    """Which network maps."""

    weights: str = Field(
        "auto",
        description="`auto`, a name of `quakeslide models`, or the path of a .safetensors or .ensemble.json file.",
    )
    zoo: tuple[str, ...] = Field(
        (), description="Folders with further models; with `auto` the nearest of these and the shipped ones maps."
    )
    tile_px: int | None = Field(
        None, ge=64, description="Side of an inference tile without its halo, in pixels; chosen by memory when not set."
    )
    halo_px: int = Field(8, ge=0, description="Overlap on each side of an inference tile, in pixels.")
    device: str = Field(
        "auto", description="What computes the network: `auto` (a GPU if there is one), cpu, cuda, cuda:N."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="`auto`: bfloat16 where it was measured to be harmless with these weights, else float32."
    )
    symmetries: Literal[1, 2, 4, 8] = Field(
        1,
        description="Mirror images and turns of each tile whose mean is taken, at so many times the network's time "
        "(at most 4 for a network that sees the hillshade).",
    )
    scene_means: float = Field(
        0.0, ge=0, le=1, description="Share of the way that a scene's mean light is moved to that of the training ground; "
        "0.5 mends some regions and harms others.",
    )  # fmt: skip
    compiled: Literal["auto"] | bool = Field(
        "auto",
        description="Whether `torch.compile` makes one program of the network: `auto` on a GPU, for large scenes.",
    )
    network_wait_s: float = Field(  # not dumped: it decides nothing of a map
        900.0, gt=0, exclude=True, description="On a Dask cluster: wait for a worker that runs the network, seconds."
    )
    memory_mb: int | None = Field(
        None, ge=100, description="Memory for the tiles in the network, MB; when not set, 600 or half of what is free."
    )
    minimum_area_m2: float = Field(
        400.0, ge=0, description="Polygons smaller than this are dropped; with `rules` theirs decides instead."
    )
    rules: str = Field(
        "auto",
        pattern=r"^(auto|none|geology|learnt:.+)$",
        description="Which mapped regions are dropped: `none` but the small ones; `geology`, also roads and flat ground, "
        "with the paper's smallest area; `learnt:FILE`, with thresholds of `quakeslide learn-rules`. With rules, a network "
        "of one date is also run on the image before, and what it finds there is subtracted. `auto`: geology for those "
        "networks, none for others, whose maps it did not make better on validation ground.",
    )


class WatchSettings(_Group):
    """How the feed is watched, and which earthquakes are taken up."""

    feed: str = Field(
        "2.5_day", description="USGS summary feed that is polled; what it misses is caught up by a query."
    )
    every_s: float = Field(30.0, ge=10, le=60, description="From one look at the feed to the next, in seconds.")
    sweep_minutes: float = Field(
        60.0, gt=0, description="How often revisions and deletions of events that have left the feed are asked for."
    )
    remember_days: float = Field(
        60.0, gt=0, description="Events older than this are not asked after; also how far a first start looks back."
    )
    landslide_alert: Literal["green", "yellow", "orange", "red"] = Field(
        "yellow",
        description="With a ground-failure product: the lowest landslide alert that is mapped; the USGS's green says "
        "that little or no landsliding is expected.",
    )
    minimum_hazard: float = Field(
        1.0,
        ge=0,
        description="With a ground-failure product: an aggregate landslide hazard (km²) that is mapped too; 1 is the "
        "USGS's own limit of green.",
    )
    maximum_depth_km: float = Field(
        70.0,
        gt=0,
        description="Without a ground-failure product: deeper earthquakes, which are not shallow by the USGS's classes, "
        "are mapped from two magnitudes above `area.minimum_magnitude` only.",
    )
    minimum_steep_km2: float = Field(
        25.0,
        ge=0,
        description="Without a ground-failure product: less steep land than this under shaking is not mapped.",
    )
    same_event_s: float = Field(
        16.0,
        gt=0,
        description="Records of several networks within this time, `same_event_km` and one magnitude are one earthquake "
        "unless the USGS lists them side by side; 16 s and 100 km are what it associates by itself.",
    )
    same_event_km: float = Field(100.0, gt=0, description="See `same_event_s`.")
    sequence_days: float = Field(
        30.0, ge=0, description="An earthquake this soon after another whose area it overlaps joins its campaign."
    )
    outage_minutes: float = Field(
        15.0, ge=0, description="A watch fails, and so alerts, when the USGS has not been reached for so long."
    )


class CampaignSettings(_Group):
    """How an earthquake is followed from its first image to its last version."""

    horizon_days: float = Field(
        60.0, gt=0, description="A campaign ends at the latest so long after its last earthquake."
    )
    covered_share: float = Field(0.98, gt=0, le=1, description="It ends earlier when so much of its area was observed.")
    first_share: float = Field(
        0.05, gt=0, le=1, description="A first version is made when so much of the area is expected to be observed."
    )
    better_share: float = Field(
        0.03, gt=0, le=1, description="A further version is made when so much more of the area can be observed."
    )
    look_hours: float = Field(
        6.0, gt=0, description="The catalogue is asked for scenes as often, at least; more while some are on their way."
    )
    partial_above_tiles: int = Field(
        24, ge=1, description="Areas of more tiles are published in part first, the most dangerous quarter of them."
    )
    at_once: int = Field(4, ge=1, description="Campaigns that are worked on at the same time, the most urgent first.")
    lease_minutes: float = Field(
        5.0, gt=0, description="A step that has not renewed its lease for so long is taken for dead."
    )
    maximum_failures: int = Field(
        8,
        ge=1,
        description="Steps in a row that may fail; then it waits for a person. Services that are away do not count.",
    )
    budget_requests: int = Field(
        5_000, ge=0, description="Earth Engine requests of one campaign, then it asks; 0: no limit."
    )
    budget_gb: float = Field(200.0, ge=0, description="Bytes pulled, in GB, likewise.")
    budget_eecu_hours: float = Field(100.0, ge=0, description="Earth Engine compute, likewise.")
    budget_network_minutes: float = Field(600.0, ge=0, description="Minutes of the device that maps, likewise.")
    budget_stored_gb: float = Field(100.0, ge=0, description="Bytes kept in the bucket, in GB, likewise.")


class AlertSettings(_Group):
    """Who is told, by blocks of the Prefect server: no address and no secret stands in a setting."""

    blocks: tuple[str, ...] = Field(
        (),
        description="Notification blocks as type/name, for example `slack-webhook/ops`, `email-server-credentials/ops`.",
    )
    email_to: str = Field("", description="Whom e-mail goes to, when an e-mail block is among them.")


class JanitorSettings(_Group):
    """What is cleared away, and when."""

    orphan_hours: float = Field(
        24.0, gt=0, description="Stages and products of a run that was never published are removed after so many hours."
    )
    keep_cubes_days: float = Field(
        30.0, ge=0, description="Cubes of closed campaigns are kept for so many days; published products always."
    )


class MetricsSettings(_Group):
    """Where the state of the whole is served for monitoring."""

    host: str = Field("127.0.0.1", description="Address that `quakeslide monitor` listens on.")
    port: int = Field(9464, ge=0, le=65535, description="Its port; 0 for any free one.")


class DaskSettings(_Group):
    """Where tiles are worked on: at most one of `address`, `gateway` and `namespace`; none for a cluster in the process."""

    address: str = Field("", description="Address of a Dask scheduler that runs already.")
    gateway: str = Field("", description="Address of a Dask Gateway, which is asked for a cluster of the run's own.")
    namespace: str = Field(
        "", description="Namespace of Kubernetes in which the Dask operator makes a cluster of the run's own."
    )
    image: str = Field("", description="With `namespace`: the image of scheduler and workers.")
    gpu_image: str = Field("", description="With `namespace`: the image of workers with a GPU; empty for `image`.")
    service_account: str = Field("quakeslide-worker", description="With `namespace`: whom the workers act as.")
    workers: int = Field(4, ge=1, description="With `gateway` or `namespace`: workers of the cluster.")
    gpu_workers: int = Field(
        0, ge=0, description="With `namespace` only: workers with a GPU; those of another cluster offer it themselves."
    )

    @model_validator(mode="after")
    def _has_one_cluster(self) -> DaskSettings:
        if len([place for place in (self.address, self.gateway, self.namespace) if place]) > 1:
            raise ValueError("set one of address, gateway and namespace")
        if self.namespace and not self.image:
            raise ValueError("a cluster of the operator needs an image: set dask.image")
        if self.gpu_workers and not self.namespace:
            raise ValueError("dask.gpu_workers is for dask.namespace: have workers of the gateway or address offer GPU")
        return self

    @property
    def elsewhere(self) -> bool:
        """Whether the cluster is other processes than this one."""
        return bool(self.address or self.gateway or self.namespace)


class WorkSettings(_Group):
    """What a run needs of the machine that it runs on."""

    scratch: str = Field(
        "", description="Folder for files that a run needs while it works; empty for the system's temporary folder."
    )


class LocalSettings(_Group):
    """The stand-ins that are used when no Earth Engine project is set."""

    home: Path = Field(Path(".quakeslide"), description="Folder for the stand-ins' state.")
    data: str = Field("", description="Folder with recorded data to serve (see `quakeslide local up --help`).")


class Settings(BaseSettings):
    """All settings of quakeslide."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter=_DELIMITER, toml_file="quakeslide.toml", extra="forbid", frozen=True
    )

    earthengine: EarthEngineSettings = EarthEngineSettings()
    storage: StorageSettings = StorageSettings()
    usgs: UsgsSettings = UsgsSettings()
    area: AreaSettings = AreaSettings()
    imagery: ImagerySettings = ImagerySettings()
    cube: CubeSettings = CubeSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    model: ModelSettings = ModelSettings()
    watch: WatchSettings = WatchSettings()
    campaign: CampaignSettings = CampaignSettings()
    alerts: AlertSettings = AlertSettings()
    janitor: JanitorSettings = JanitorSettings()
    metrics: MetricsSettings = MetricsSettings()
    dask: DaskSettings = DaskSettings()
    work: WorkSettings = WorkSettings()
    local: LocalSettings = LocalSettings()
    mode: Literal["auto", "local", "cloud"] = Field(
        "auto",
        description="`cloud` with an Earth Engine project, `local` with stand-ins, `auto` decides by the project.",
    )
    log: Literal["text", "json"] = Field(
        "text", description="Logs as lines for people, or as one JSON object a line; secrets are taken out of both."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, which wins over `quakeslide.toml` in the working directory."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings() -> Settings:
    """The settings of this process; raises `FlowError` naming the first field that is wrong, with its value."""
    variables = Variables(_PREFIX, _DELIMITER, Settings)
    variables.require_known()
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise FlowError(f"setting {field} = {first.get('input')!r}: {first['msg']}") from error
    except SettingsError as error:
        raise FlowError(variables.unread() or str(error)) from error
    except (OSError, ValueError) as error:
        raise FlowError(f"quakeslide.toml cannot be read: {error}") from error
