# ruff: noqa: E501 (lines of a script in a script)
"""The page of the attention explorer: markup, style and script; ``{{DATA}}`` and ``{{TITLE}}`` are put in."""

PAGE = r"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>Attention: {{TITLE}}</title>
<style>
:root{--ink:#222;--soft:#666;--line:#ddd;--blue:#0072B2;--red:#D55E00}
*{box-sizing:border-box}
body{font:13px/1.4 system-ui,"DejaVu Sans",sans-serif;color:var(--ink);margin:0;background:#fafafa}
header{padding:10px 16px 6px;background:#fff;border-bottom:1px solid var(--line)}
h1{font-size:17px;margin:0} h2{font-size:13px;margin:0 0 4px}
header p{margin:2px 0;color:var(--soft)}
.bar{display:flex;gap:18px;align-items:center;flex-wrap:wrap;padding:8px 16px;background:#fff;
border-bottom:1px solid var(--line)}
label{display:flex;gap:6px;align-items:center} input[type=range]{accent-color:var(--blue)}
main{align-items:start;display:grid;grid-template-columns:minmax(380px,1.25fr) minmax(420px,1fr);gap:12px;padding:12px 16px}
section{background:#fff;border:1px solid var(--line);border-radius:6px;padding:10px}
canvas{display:block;max-width:100%}
.maps{display:grid;grid-template-columns:1fr 1fr;gap:12px}
small{color:var(--soft)} button{font:inherit;padding:2px 8px}
#shares button{display:grid;white-space:nowrap;grid-template-columns:90px 1fr 48px;gap:6px;width:100%;border:0;background:none;
text-align:left;padding:1px 2px;cursor:pointer;align-items:center}
#shares button:hover,#shares button.on{background:#eef5fa}
#shares i{display:block;height:10px;background:var(--red)} #shares .own i{background:var(--blue)}
#tip{position:fixed;pointer-events:none;background:#222;color:#fff;padding:3px 7px;border-radius:4px;font-size:12px;
display:none;z-index:9}
@media(max-width:900px){main{grid-template-columns:1fr}}
</style></head><body>
<header><h1>Who tells whom what: attention of a SPIN network</h1><p id="about"></p></header>
<div class="bar">
<label>layer <select id="layer"></select></label>
<label>imputed step <button id="back" aria-label="earlier">‹</button>
<input id="step" type="range" min="0" value="0" style="width:230px"><button id="next" aria-label="later">›</button>
<b id="clock"></b></label>
<label>edges drawn <input id="count" type="range" min="10" max="600" value="150"></label>
<label>sensor <select id="node"></select></label>
</div>
<main>
<div style="display:grid;gap:12px">
<section><h2>Sensors, and the edges that add most at this step</h2>
<canvas id="map" tabindex="0"></canvas>
<small id="legend"></small></section>
<section><h2 id="t3"></h2><canvas id="strip"></canvas>
<small><span style="color:var(--blue)">●</span> visible to the network &nbsp;
<span style="color:var(--red)">○</span> hidden or missing: what the network says</small></section></div>
<div style="display:grid;gap:12px;align-content:start">
<section><h2 id="who"></h2><div id="shares"></div>
<small>Share of each source in what the sensor is told at this step in this layer, by ‖w Σ alpha · message‖; alpha alone
can't say it, because what neighbours tell is summed. Click a source for its map.</small></section>
<section class="maps"><div><h2 id="t1"></h2><canvas id="m1"></canvas></div><div><h2 id="t2"></h2><canvas id="m2"></canvas>
</div><small style="grid-column:1/3">Rows: step that is imputed; columns: step that is looked at (darker: less). The
line marks the step chosen above; dark columns could not be seen.</small></section>
</div></main><div id="tip"></div>
<script id="data" type="application/octet-stream">{{DATA}}</script>
<script>
"use strict";
const $=id=>document.getElementById(id), bin=s=>Uint8Array.from(atob(s),c=>c.charCodeAt(0));
const ramp=[[0,34,78],[18,53,112],[59,73,108],[87,93,109],[112,113,115],[138,134,120],[165,156,116],[195,179,105],
[225,204,85],[254,232,56]]; // cividis
function colour(v){const p=Math.min(.9999,Math.max(0,v))*9,i=Math.floor(p),f=p-i;
 return ramp[i].map((a,k)=>Math.round(a+(ramp[i+1][k]-a)*f));}
let D,T,P,N,S,layer,step=0,node,other,incoming=[],hit=[];
async function open(){
 const raw=new Blob([bin($("data").textContent.trim())]).stream().pipeThrough(new DecompressionStream("gzip"));
 D=JSON.parse(await new Response(raw).text());
 for(const k of ["alpha","norm","seen"])D[k]=bin(D[k]);
 D.share=new Uint16Array(bin(D.share).buffer);
 T=D.time.length;P=D.source.length;N=D.nodes.length;S=D.top.length/D.layers;layer=D.layers-1;step=T>>1;
 incoming=D.nodes.map(()=>[]);D.target.forEach((t,p)=>incoming[t].push(p));
 const a=D.about;$("about").textContent=[a.data,a.scenario,a.arm].filter(Boolean).join(" · ")+
  ` — ${N} sensors, ${D.kind.filter(k=>!k).length} directed edges, ${D.layers} layers, `+
  `${D.time[0]} to ${D.time[T-1].slice(11)}`;
 for(let l=0;l<D.layers;l++)$("layer").add(new Option(l+1,l,l==layer,l==layer));
 D.nodes.forEach((n,i)=>$("node").add(new Option(n,i)));
 $("step").max=T-1;$("step").value=step;choose(D.start);
 const q=new URLSearchParams(location.hash.slice(1));
 if(q.has("step"))step=Math.min(T-1,Math.max(0,+q.get("step")));
 if(q.has("layer"))layer=Math.min(D.layers,Math.max(1,+q.get("layer")))-1;
 if(D.nodes.includes(q.get("node")))choose(D.nodes.indexOf(q.get("node")));
 draw();document.body.dataset.ready="1";
}
const at=(l,p,t)=>(l*P+p)*T+t;
function choose(n){node=n;$("node").value=n;
 const cross=incoming[n].filter(p=>!D.kind[p]);let best=-1,most=-1;
 for(const p of cross){let s=0;for(let t=0;t<T;t++)s+=D.norm[at(layer,p,t)];if(s>most){most=s;best=p}}
 other=best;}
function size(c,w,h){const r=window.devicePixelRatio||1;c.width=w*r;c.height=h*r;c.style.width=w+"px";c.style.height=h+"px";
 const g=c.getContext("2d");g.setTransform(r,0,0,r,0,0);g.clearRect(0,0,w,h);return g;}
function arrow(g,x,y,u,v,w){const d=Math.hypot(u-x,v-y)||1,ex=(u-x)/d,ey=(v-y)/d,bend=Math.min(16,d*.12);
 const mx=(x+u)/2-ey*bend,my=(y+v)/2+ex*bend,tx=u-ex*5,ty=v-ey*5;
 g.lineWidth=w;g.beginPath();g.moveTo(x,y);g.quadraticCurveTo(mx,my,tx,ty);g.stroke();
 const qx=tx-mx,qy=ty-my,q=Math.hypot(qx,qy)||1,fx=qx/q,fy=qy/q,h=4+w;
 g.beginPath();g.moveTo(tx,ty);g.lineTo(tx-fx*h-fy*h*.5,ty-fy*h+fx*h*.5);g.lineTo(tx-fx*h+fy*h*.5,ty-fy*h-fx*h*.5);g.fill();}
function drawMap(){const c=$("map"),w=c.parentElement.clientWidth-22,m=26;
 const ys=D.place.filter((_,i)=>i%2),xs=D.place.filter((_,i)=>!(i%2)),lo=Math.min(...xs),hy=Math.max(...ys);
 const wide=Math.max(...xs)-lo||1e-9,high=hy-Math.min(...ys)||1e-9;
 const k=Math.min((w-2*m)/wide,(Math.max(420,innerHeight-200)-2*m)/high),h=high*k+2*m;
 const g=size(c,w,h),ox=(w-k*wide)/2-k*lo,oy=m-k*(1-hy);
 hit=D.nodes.map((_,i)=>[ox+D.place[2*i]*k,oy+(1-D.place[2*i+1])*k]);
 const all=[];for(let p=0;p<P;p++)if(!D.kind[p])all.push(p);
 all.sort((a,b)=>D.norm[at(layer,b,step)]-D.norm[at(layer,a,step)]);
 for(const p of all.slice(0,+$("count").value).reverse()){if(D.target[p]==node)continue;
  const s=D.share[at(layer,p,step)]/65535;g.strokeStyle=g.fillStyle=`rgba(120,120,120,${.12+.5*s})`;
  arrow(g,...hit[D.source[p]],...hit[D.target[p]],.5+3*s);}
 for(const p of incoming[node]){if(D.kind[p])continue;const s=D.share[at(layer,p,step)]/65535;
  g.strokeStyle=g.fillStyle=p==other?"#7a2f00":`rgba(213,94,0,${.35+.65*s})`;
  arrow(g,...hit[D.source[p]],...hit[node],1+9*s);}
 for(let i=0;i<N;i++){const [x,y]=hit[i],seen=D.seen[step*N+i],r=i==node?7:4;
  g.beginPath();g.arc(x,y,r,0,7);g.fillStyle=seen?"#0072B2":"#fff";g.fill();
  g.lineWidth=i==node?3:1.3;g.strokeStyle=i==node?"#000":seen?"#fff":"#D55E00";g.stroke();}
 $("legend").innerHTML=`Blue: visible at this step; open: hidden or missing. Orange: edges into <b></b>, as wide as their
 share; grey: the strongest others.`+(D.located?"":" The data have no coordinates: sensors stand on a circle.");
 $("legend").querySelector("b").textContent=D.nodes[node];}
function drawShares(){const box=$("shares");box.textContent="";
 const rows=incoming[node].map(p=>[p,D.share[at(layer,p,step)]/65535]).sort((a,b)=>b[1]-a[1]);
 const top=Math.max(.01,...rows.map(r=>r[1]));
 $("who").textContent=`${D.nodes[node]} is told at ${D.time[step].slice(11)} by ${rows.length} sources`;
 for(const [p,s] of rows.slice(0,10)){const b=document.createElement("button");b.className=(D.kind[p]?"own ":"")+(p==other?"on":"");
  const n=document.createElement("span"),t=document.createElement("span"),i=document.createElement("i"),v=document.createElement("span");
  n.textContent=D.kind[p]?"itself":D.nodes[D.source[p]];i.style.width=100*s/top+"%";t.append(i);v.textContent=(100*s).toFixed(1)+" %";
  b.append(n,t,v);if(!D.kind[p])b.onclick=()=>{other=p;draw()};box.append(b);}
 if(rows.length>10){const d=document.createElement("small");d.textContent=
  `${rows.length-10} more: ${(100*rows.slice(10).reduce((a,r)=>a+r[1],0)).toFixed(1)} %`;box.append(d);}}
function drawHeat(c,p){const w=Math.max(120,c.parentElement.clientWidth-2),m=34,k=(w-m)/T,g=size(c,w,T*k+16);
 if(p==null||p<0||D.slot[p]<0){g.fillStyle="#666";g.fillText(p==null||p<0?"none":"no map kept for this pair",10,20);return}
 const o=(layer*S+D.slot[p])*T*T;
 for(let t=0;t<T;t++)for(let s=0;s<T;s++){const v=D.alpha[o+t*T+s]/255;
  g.fillStyle=`rgb(${colour(v)})`;g.fillRect(m+s*k,t*k,k+.6,k+.6);}
 g.strokeStyle="#fff";g.lineWidth=1.6;g.strokeRect(m,step*k,T*k,k);
 g.fillStyle="#666";g.font="10px sans-serif";
 for(let t=0;t<T;t+=Math.max(1,Math.ceil(T/4))){g.textAlign="right";g.fillText(D.time[t].slice(11),m-4,t*k+k/2+4);
  g.textAlign="left";g.fillText(D.time[t].slice(11),m+t*k,T*k+12);}
 c.onmousemove=e=>{const r=c.getBoundingClientRect(),s=Math.floor((e.clientX-r.left-m)/k),t=Math.floor((e.clientY-r.top)/k);
  if(s<0||t<0||s>=T||t>=T)return tip();
  tip(e,`${D.time[t].slice(11)} looks at ${D.time[s].slice(11)}: ${(D.alpha[o+t*T+s]/255*D.top[layer*S+D.slot[p]]).toFixed(3)}`)};
 c.onmouseleave=()=>tip();}
function drawStrip(){const c=$("strip"),w=c.parentElement.clientWidth-22,h=96,g=size(c,w,h),m=34;
 const v=[...Array(T)].map((_,t)=>D.value[t*N+node]),lo=Math.min(...v),hi=Math.max(...v),
  x=t=>m+8+(w-m-20)*t/(T-1),y=a=>10+(h-36)*(1-(a-lo)/((hi-lo)||1));
 g.fillStyle="#eef5fa";g.fillRect(x(step)-5,0,10,h-16);
 g.strokeStyle="#999";g.lineWidth=1;g.beginPath();v.forEach((a,t)=>t?g.lineTo(x(t),y(a)):g.moveTo(x(t),y(a)));g.stroke();
 v.forEach((a,t)=>{const seen=D.seen[t*N+node];g.beginPath();g.arc(x(t),y(a),3.5,0,7);
  g.fillStyle=seen?"#0072B2":"#fff";g.fill();g.strokeStyle=seen?"#0072B2":"#D55E00";g.lineWidth=1.5;g.stroke();});
 g.fillStyle="#666";g.font="10px sans-serif";g.textAlign="right";
 g.fillText(hi.toFixed(1),m-2,14);g.fillText(lo.toFixed(1),m-2,h-24);g.textAlign="center";
 for(let t=0;t<T;t+=Math.max(1,Math.ceil(T/6)))g.fillText(D.time[t].slice(11),x(t),h-3);
 c.onclick=e=>{const r=c.getBoundingClientRect();
  step=Math.max(0,Math.min(T-1,Math.round((e.clientX-r.left-m-8)/(w-m-20)*(T-1))));draw()};}
function tip(e,text){const t=$("tip");if(!e){t.style.display="none";return}
 t.textContent=text;t.style.display="block";t.style.left=e.clientX+12+"px";t.style.top=e.clientY+12+"px";}
function draw(){$("step").value=step;$("layer").value=layer;$("clock").textContent=D.time[step];
 const own=incoming[node].find(p=>D.kind[p]);drawMap();drawShares();
 $("t1").textContent=`${D.nodes[node]} looks at itself`;drawHeat($("m1"),own);
 $("t2").textContent=other>=0?`${D.nodes[node]} looks at ${D.nodes[D.source[other]]}`:"no neighbour";drawHeat($("m2"),other);
 $("t3").textContent=`${D.nodes[node]}: ${D.about.channel||"value"} [${D.about.unit||""}]`;drawStrip();}
const near=e=>{const r=$("map").getBoundingClientRect(),x=e.clientX-r.left,y=e.clientY-r.top;let b=-1,d=14;
 hit.forEach(([u,v],i)=>{const q=Math.hypot(u-x,v-y);if(q<d){d=q;b=i}});return b};
$("map").onclick=e=>{const n=near(e);if(n>=0){choose(n);draw()}};
$("map").onmousemove=e=>{const n=near(e);n<0?tip():tip(e,D.nodes[n]+(D.seen[step*N+n]?"":" (hidden or missing)"))};
$("map").onmouseleave=()=>tip();
$("step").oninput=e=>{step=+e.target.value;draw()};$("count").oninput=draw;
$("layer").onchange=e=>{layer=+e.target.value;draw()};$("node").onchange=e=>{choose(+e.target.value);draw()};
$("back").onclick=()=>{step=Math.max(0,step-1);draw()};$("next").onclick=()=>{step=Math.min(T-1,step+1);draw()};
onkeydown=e=>{if(/SELECT|INPUT/.test(e.target.tagName))return;
 if(e.key=="ArrowLeft")$("back").click();if(e.key=="ArrowRight")$("next").click()};
onresize=()=>D&&draw();
open().catch(e=>{$("about").textContent="This page needs a browser of 2023 or later (DecompressionStream): "+e});
</script></body></html>
"""
