// The parts of Apache ECharts and Tabulator that the page of a search uses; `.ci/page_libraries` makes
// libraries.min.js from this file.
import { init, use } from "echarts/core";
import { CustomChart, HeatmapChart, LineChart, ParallelChart, ScatterChart } from "echarts/charts";
import {
  AriaComponent, DataZoomComponent, GridComponent, LegendComponent, MarkLineComponent, ParallelComponent,
  TooltipComponent, VisualMapComponent,
} from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";
import {
  FilterModule, FormatModule, FrozenColumnsModule, InteractionModule, ResizeColumnsModule, ResizeTableModule, SelectRowModule,
  SortModule, Tabulator, TooltipModule,
} from "tabulator-tables";

use([
  CustomChart, HeatmapChart, LineChart, ParallelChart, ScatterChart, AriaComponent, DataZoomComponent, GridComponent,
  LegendComponent, MarkLineComponent, ParallelComponent, TooltipComponent, VisualMapComponent, CanvasRenderer,
]);
Tabulator.registerModule([
  FilterModule, FormatModule, FrozenColumnsModule, InteractionModule, ResizeColumnsModule, ResizeTableModule, SelectRowModule, SortModule,
  TooltipModule,
]);
window.echarts = { init };
window.Tabulator = Tabulator;
